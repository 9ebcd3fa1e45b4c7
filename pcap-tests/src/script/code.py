# Runs the %{ }% blocks of a script, which come as JSON on standard input; the last line tells the outcome.
import json
import sys
import textwrap

names = dict(
    TCP_CA_Open=0, TCP_CA_Disorder=1, TCP_CA_CWR=2, TCP_CA_Recovery=3, TCP_CA_Loss=4,
    TCPI_OPT_TIMESTAMPS=1, TCPI_OPT_SACK=2, TCPI_OPT_WSCALE=4, TCPI_OPT_ECN=8, TCPI_OPT_ECN_SEEN=16, TCPI_OPT_SYN_DATA=32,
    TCP_ESTABLISHED=1, TCP_SYN_SENT=2, TCP_SYN_RECV=3, TCP_FIN_WAIT1=4, TCP_FIN_WAIT2=5, TCP_TIME_WAIT=6, TCP_CLOSE=7,
    TCP_CLOSE_WAIT=8, TCP_LAST_ACK=9, TCP_LISTEN=10, TCP_CLOSING=11,
)
# What a script prints is not mistaken for the outcome.
out, sys.stdout = sys.stdout, sys.stderr
for code in json.load(sys.stdin):
    names.update(code["variables"])
    try:
        exec(compile(textwrap.dedent(code["text"].strip("\n")).strip(), "script", "exec"), names)
    except Exception as error:
        why = f"{type(error).__name__}: {error}".rstrip(": ")
        told = [f"{name} = {value}" for name, value in code["variables"] if name in code["text"]]
        print("netcell:", code["line"], "; ".join([why] + told).replace("\n", " "), file=out)
        sys.exit(1)
print("netcell: passed", file=out)
