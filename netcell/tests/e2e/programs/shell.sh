set -m
cat <<EOF | tr a-z A-Z
here is $((6*7))
EOF
cat <<< "here string"
seq 1 1000 | awk '{s+=$1} END {print s}'
diff <(echo a) <(echo a) && echo same
sleep 100 & p=$!
jobs | sed 's/ *$//'
kill -STOP $p
until jobs | grep -q Stopped; do :; done
jobs | sed 's/ *$//'
bg >/dev/null; kill -TERM $p; wait $p 2>/dev/null; echo status $?
(exit 3) & wait $!; echo $?
trap 'echo trapped' USR1; kill -USR1 $$
f() { local x=$1; echo $((x*2)); }; f 21
echo {a,b}{1,2}; x=abc; echo ${x^^} ${#x} ${x/b/-}
mapfile -t lines < <(printf 'one\ntwo\n'); echo ${lines[1]}
coproc cat; echo through >&${COPROC[1]}; read -r line <&${COPROC[0]}; echo $line
exec {COPROC[1]}>&-; wait
yes | head -3; echo ${PIPESTATUS[0]}
ulimit -n 50; ulimit -n
umask 027; touch u; stat -c %a u
mkfifo p; echo fifo > p & cat p; wait
exec 3>out; echo three >&3; exec 3>&-; cat out
test -t 0 || echo no terminal
