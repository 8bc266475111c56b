# A disk that fills up (here a limit on the size of files) and what a killed conversion left behind.
stage A
(
    ulimit -f 100
    try corral convert A out.crl
)
ls
dead=$(sh -c 'echo $$')
echo half >out.crl.partial-$dead
echo other >other.crl.partial-$dead
corral convert A out.crl --quiet >/dev/null
ls | sed 's/-[0-9]*$/-PID/'
