//! AF_UNIX: stream, datagram and seqpacket sockets with descriptors and credentials (unix(7)).
