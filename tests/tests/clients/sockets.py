"""Every kind of socket to one service: python3 sockets.py NAME VIP4 VIP6. Prints a line for each; an exception ends it."""
import socket, sys, urllib.request

name, vip4, vip6 = sys.argv[1:]
names = [name, f"{name}.internal", f"{name}.production.shop.internal"]

def check(what, got, wanted):
    assert got == wanted, f"{what}: {got!r}, wanted {wanted!r}"
    print(what)

for form in names:
    for family, vip in ((socket.AF_INET, vip4), (socket.AF_INET6, vip6)):
        found = {entry[4][0] for entry in socket.getaddrinfo(form, 8080, family)}
        check(f"getaddrinfo {form} {family.name}", found, {vip})
    both = {entry[4][0] for entry in socket.getaddrinfo(form, 8080)}
    check(f"getaddrinfo {form} AF_UNSPEC", both, {vip4, vip6})
    body = urllib.request.urlopen(f"http://{form}:8080/hello", timeout=5).read()
    check(f"http {form}", body, b"/hello")

def http(connection):
    connection.sendall(b"GET /raw HTTP/1.0\r\n\r\n")
    answer = b""
    while part := connection.recv(4096):
        answer += part
    return answer.endswith(b"/raw")

# What the program asked for is what it sees: the peer is the virtual address, in the form it was given.
for family, address in (
    (socket.AF_INET, vip4),
    (socket.AF_INET6, vip6),
    (socket.AF_INET6, f"::ffff:{vip4}"),
):
    what = f"{family.name} {address}"
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect((address, 8080))
        check(f"TCP peer, {what}", connection.getpeername()[0], address)
        check(f"TCP, {what}", http(connection), True)
    with socket.socket(family, socket.SOCK_DGRAM) as connected:
        connected.settimeout(5)
        connected.connect((address, 7000))
        check(f"connected UDP peer, {what}", connected.getpeername()[0], address)
        for turn in (b"one", b"two"):
            connected.send(turn)
            data, sender = connected.recvfrom(64)
            check(f"connected UDP {turn.decode()}, {what}", (data, sender[0]), (turn, address))
    with socket.socket(family, socket.SOCK_DGRAM) as unconnected:
        unconnected.settimeout(5)
        for turn in (b"one", b"two"):
            unconnected.sendto(turn, (address, 7000))
            data, sender = unconnected.recvfrom(64)
            check(f"unconnected UDP {turn.decode()}, {what}", (data, sender[:2]), (turn, (address, 7000)))
