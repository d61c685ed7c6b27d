"""A program that answers at an address as servers of the Internet do: HTTPS and DNS by TLS as far as TCP, DNS by UDP
and TCP, and QUIC as far as its versions. It says `ready`, and needs Python's standard library alone."""

from claude_sandbox.backends.probing.wanted import Named

WORLD = "198.51.100.7"
"""Of those for documentation (RFC 5737), and public as far as any program can tell."""
SERVED = (
    Named(WORLD, 443),
    Named(WORLD, 853),
    Named(WORLD, 53, "dns-udp"),
    Named(WORLD, 53, "dns-tcp"),
    Named(WORLD, 443, "quic"),
    Named(f"::ffff:{WORLD}", 443),
)
"""HTTPS, by which names are asked for too; DNS by TLS, UDP and TCP; QUIC, and the first written otherwise."""
WORLD6 = "2001:db8:7::7"
"""The same of IPv6 (RFC 3849)."""
SERVED6 = tuple(one._replace(host=WORLD6) for one in SERVED if one.host == WORLD)

PROGRAM = r"""
import socket, struct, sys, threading

family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET

def no_such_name(asked):
    return asked[:2] + b"\x81\x83" + asked[4:]

def versions(asked):
    return b"\x80" + bytes(4) + asked[14:23] + asked[5:14] + b"\x00\x00\x00\x01"

def datagrams(port, answered):
    with socket.socket(family, socket.SOCK_DGRAM) as serving:
        serving.bind((sys.argv[1], port))
        ready.release()
        while True:
            asked, who = serving.recvfrom(4096)
            serving.sendto(answered(asked), who)

def streams(port):
    with socket.create_server((sys.argv[1], port), family=family) as serving:
        ready.release()
        while True:
            connection, _ = serving.accept()
            threading.Thread(target=one, args=(connection, port), daemon=True).start()

def one(connection, port):
    with connection:
        asked = connection.recv(4096)
        if port == 53 and asked:
            answer = no_such_name(asked[2:])
            connection.sendall(struct.pack(">H", len(answer)) + answer)

ready = threading.Semaphore(0)
for what, arguments in ((datagrams, (53, no_such_name)), (datagrams, (443, versions)),
                        (streams, (53,)), (streams, (443,)), (streams, (853,))):
    threading.Thread(target=what, args=arguments).start()
for _ in range(5):
    ready.acquire()
print("ready", flush=True)
"""
