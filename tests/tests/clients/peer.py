"""Serves HTTP on 8080 (the body is the path) and gives back datagrams on 7000, on both families."""
import http.server, socket, threading

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6

def datagrams():
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.bind(("::", 7000))
    while True:
        data, sender = server.recvfrom(2048)
        server.sendto(data, sender)

threading.Thread(target=datagrams, daemon=True).start()
Server(("::", 8080), Handler).serve_forever()
