"""Asks PostgreSQL over one connection, and over another when that is lost, with what its environment says: each question
until it is answered. What was answered is in the database; at SIGTERM it says there how much that was, and ends."""

import os
import signal
import subprocess
import time
from urllib.parse import unquote, urlsplit

url = urlsplit(os.environ["DATABASE_URL"])
# Not on a command line, where all processes read it.
environment = os.environ | {
    "PGHOST": url.hostname,
    "PGPORT": str(url.port),
    "PGUSER": unquote(url.username),
    "PGPASSWORD": unquote(url.password),
    "PGDATABASE": unquote(url.path[1:]),
    "PGCONNECT_TIMEOUT": "5",
}
with open("/proc/sys/kernel/random/uuid") as file:
    me = file.read().strip()
ending = False


def end(*_):
    global ending
    ending = True


class Connection:
    def __init__(self):
        self.psql = None

    def ask(self, query):
        """Its answer, of one line, however many connections it takes."""
        while True:
            if self.psql is None:
                self.psql = subprocess.Popen(
                    ["psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"],
                    env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
                    # A signal to this process alone: Docker's goes to nobody else.
                    start_new_session=True,
                )
            try:
                self.psql.stdin.write(query + "\n")
                answer = self.psql.stdout.readline()
            except BrokenPipeError:
                answer = ""
            if answer:
                return answer.strip()
            self.psql.wait()
            self.psql = None
            time.sleep(0.05)


signal.signal(signal.SIGTERM, end)
connection = Connection()
number = 0
while not ending:
    number += 1
    values = f"('{me}', {number}) ON CONFLICT (client, number) DO UPDATE SET number = excluded.number"
    answer = connection.ask(f"INSERT INTO answered VALUES {values} RETURNING number;")
    assert answer == str(number), answer
    time.sleep(0.05)
assert connection.ask(f"INSERT INTO ended VALUES ('{me}', {number}) RETURNING client;") == me
