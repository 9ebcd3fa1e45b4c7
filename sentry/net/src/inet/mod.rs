//! AF_INET and AF_INET6 on netstack: streams, datagrams, ping and raw sockets (ip(7), ipv6(7), tcp(7), udp(7), raw(7), icmp(7)).

pub mod sockaddr;
