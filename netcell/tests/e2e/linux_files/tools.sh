# Tools that read /proc find what they look for; what they print differs, so each line says only that it fits.
fits() {
    name=$1 pattern=$2
    shift 2
    if text=$("$@" 2>&1) && grep -Eq "$pattern" <<<"$text"; then echo "$name fits"; else echo "$name: $text"; fi
}
fits ps "^ *$$ .*bash" ps -o pid,ppid,stat,time,rss,args -p $$
fits ps_ef "^root +$$ .*bash" ps -ef
fits ps_aux "^root +$$ +[0-9.]+ +[0-9.]+ +[1-9][0-9]* +[1-9][0-9]* .* bash|bin/bash" ps aux
fits ps_threads "$$ +$$" ps -L -o pid,lwp -p $$
fits ps_tree "bash" ps -e --forest
fits top "^ *[0-9]+ root .*" top -b -n1
fits free "^Mem: +[1-9][0-9]+ +[0-9]+ +[1-9]" free
fits uptime "up .*load average: [0-9.]+, [0-9.]+, [0-9.]+" uptime
fits vmstat "^ *[0-9]+ +[0-9]+ +[0-9]+ +[1-9]" vmstat
fits lsof "^bash +$$ +root +cwd +DIR" lsof -n -p $$
fits lsof_text "^bash +$$ +root +txt +REG .*/bash" lsof -n -p $$
fits mount "^proc on /proc type proc" mount
fits findmnt "/proc +proc +proc" findmnt /proc
fits df "^[^ ]+ +[0-9]+ +[0-9]+ +[0-9]+ +[0-9]+% /" df /
fits df_inodes "IFree" df -i /tmp
fits id "^uid=0\(root\) gid=0\(root\)" id
fits pgrep "^$$\$" pgrep bash
fits pidof "$$" pidof bash
fits nproc "^[1-9]" nproc
fits getconf "^[1-9]" getconf _NPROCESSORS_ONLN
fits pmap "total +[1-9]" pmap $$
fits pwdx "^$$: /" pwdx $$
fits kill_list "TERM" kill -l
fits limits "Max open files +[0-9]+ +[0-9]+ +files" cat /proc/self/limits
fits status "^State:.R \(running\)" cat /proc/self/status
fits status_mask "^SigCgt:.[0-9a-f]{16}\$" cat /proc/self/status
fits stat "^[0-9]+ \(cat\) R( -?[0-9]+){49}\$" cat /proc/self/stat
fits statm "^[0-9]+( [0-9]+){6}\$" cat /proc/self/statm
fits maps "^[0-9a-f]+-[0-9a-f]+ r-xp [0-9a-f]{8} [0-9a-f:]+ [0-9]+ +/.*/cat\$" cat /proc/self/maps
fits maps_stack "\[stack\]\$" cat /proc/self/maps
fits smaps "^Rss: +[0-9]+ kB" cat /proc/self/smaps
fits mountinfo "^[0-9]+ [0-9]+ [0-9]+:[0-9]+ / / rw" cat /proc/self/mountinfo
fits cgroup "^0::/" cat /proc/self/cgroup
fits oom "^0\$" cat /proc/self/oom_score_adj
fits comm "^cat\$" cat /proc/self/comm
fits cmdline "cat./proc" sh -c "tr '\\0' . </proc/self/cmdline; cat /proc/self/cmdline | tr '\\0' ."
fits environ "PATH=/" sh -c "tr '\\0' '\\n' </proc/self/environ"
fits exe "/readlink\$" readlink /proc/self/exe
fits cwd "^/" readlink /proc/self/cwd
fits task "^[0-9]+\$" ls /proc/self/task
fits fd "^0 1 " sh -c 'echo $(ls /proc/self/fd)'
fits fdinfo "^flags:.0[0-7]+" cat /proc/self/fdinfo/1
fits loadavg "^[0-9.]+ [0-9.]+ [0-9.]+ [0-9]+/[0-9]+ [0-9]+\$" cat /proc/loadavg
fits proc_uptime "^[0-9]+\.[0-9]{2} [0-9]+\.[0-9]{2}\$" cat /proc/uptime
fits version "^Linux version [0-9]" cat /proc/version
fits cpuinfo "^processor.*: 0" cat /proc/cpuinfo
fits meminfo "^MemAvailable: +[0-9]+ kB" cat /proc/meminfo
fits proc_stat "^cpu +[0-9]+( [0-9]+){9}\$" cat /proc/stat
fits filesystems "^nodev.tmpfs" cat /proc/filesystems
fits pid_max "^[0-9]+\$" cat /proc/sys/kernel/pid_max
fits ostype "^Linux\$" cat /proc/sys/kernel/ostype
fits osrelease "^[0-9]+\.[0-9]+" cat /proc/sys/kernel/osrelease
fits somaxconn "^[0-9]+\$" cat /proc/sys/net/core/somaxconn
fits port_range "^[0-9]+.[0-9]+\$" cat /proc/sys/net/ipv4/ip_local_port_range
fits overcommit "^[012]\$" cat /proc/sys/vm/overcommit_memory
fits file_max "^[0-9]+\$" cat /proc/sys/fs/file-max
fits boot_id "^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\$" cat /proc/sys/kernel/random/boot_id
fits net_tcp "local_address rem_address" cat /proc/net/tcp
fits net_dev "lo: +[0-9]+" cat /proc/net/dev
fits net_route "^Iface" cat /proc/net/route
fits net_snmp "^Tcp: .*ActiveOpens .*InSegs" cat /proc/net/snmp
fits hosts "localhost" getent hosts localhost
fits tty_none "not a tty" sh -c 'tty </dev/null; true'
