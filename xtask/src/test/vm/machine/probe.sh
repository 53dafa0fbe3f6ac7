# What must answer, and what must not, from the container's first moment on; a line for each.
now() { cut -d' ' -f1 /proc/uptime; }
forbidden() { # address or name
    answer=$(nc -w 1 "$1" 8080 </dev/null 2>/dev/null)
    [ -z "$answer" ] || echo "leak $(now) $1 $answer" >>/probe/log
    ping -c 1 -W 1 "$1" >/dev/null 2>&1 && echo "leak $(now) $1 ping" >>/probe/log
}
trap "exit 0" TERM
# On a line of its own: after a power cut, what the file had before may be zeros.
echo >>/probe/log
echo "start $(now)" >>/probe/log
while :; do
    for address in $FORBIDDEN; do forbidden "$address" & done
    wait
    echo "round $(now)" >>/probe/log
    # The machine has other things to do, on an emulated processor.
    sleep "${PAUSE:-1}"
done &
while :; do
    if [ "$(nc -w 5 web 8080 </dev/null 2>/dev/null)" = pong ]; then
        echo "ok $(now)" >>/probe/log
    else
        echo "fail $(now)" >>/probe/log
    fi
    sleep 0.2
done
