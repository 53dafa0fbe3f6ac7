/* web [WORD…]: an HTTP/1.1 server on port 8080 that says $VERSION, and gives back each datagram on 8081. After SIGTERM
   it answers what is under way and what comes within LINGER with `Connection: close`, closes the rest, and ends.
   GET /health says whether it is well, GET /slow answers after SLOW; `Upgrade: echo` makes a connection give back
   what comes, until SIGTERM. The words:
     deaf          listens nowhere
     stubborn      ignores SIGTERM
     sick=SECONDS  is not well from then on
     flaps=SECONDS is well for so long, then not, and so on
     exit=SECONDS  ends with status 3 then
     memory        takes ever more memory after a second, up to half a GiB
     second        the other words hold for replicas but the first */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LISTENER, DATAGRAMS, FIRST, MOST = 512, LINGER = 500, SLOW = 30 };

struct connection {
    int upgraded;
    long due; /* When what was asked is answered; 0: nothing was. */
    size_t length;
    char head[2048];
};

static struct pollfd fds[MOST];
static struct connection connections[MOST];
static volatile sig_atomic_t asked_to_end;
static void *volatile taken; /* The compiler leaves out what nobody may look at. */
static long begun, ending, sick = -1, flaps = -1, ends = -1, greed;

static void terminate(int signal) {
    asked_to_end = 1;
}

static long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000 + at.tv_nsec / 1000000;
}

static int listening(int port, int type) {
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int yes = 1, fd = socket(AF_INET6, type, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || (type == SOCK_STREAM && listen(fd, MOST))) {
        perror("web");
        _exit(1);
    }
    return fd;
}

static void drop(int i) {
    close(fds[i].fd);
    fds[i].fd = -1;
}

static void welcome(void) {
    int yes = 1, fd = accept(fds[LISTENER].fd, NULL, NULL);
    for (int i = FIRST; fd >= 0 && i < MOST; i++)
        if (fds[i].fd < 0) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            fds[i] = (struct pollfd){.fd = fd, .events = POLLIN};
            connections[i] = (struct connection){0};
            return;
        }
    close(fd);
}

static int is_well(void) {
    long age = now() - begun;
    return !(sick >= 0 && age >= sick) && !(flaps > 0 && age / flaps % 2);
}

static void answer(int i) {
    struct connection *of = &connections[i];
    const char *version = getenv("VERSION"), *status = "200 OK";
    char text[512];
    version = version ? version : "none";
    if (!strncmp(of->head, "GET /health ", 12) && !is_well())
        status = "503 Service Unavailable";
    int last = ending || strcasestr(of->head, "\r\nConnection: close");
    int length = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n%s", status, strlen(version),
                          last ? "Connection: close\r\n" : "", version);
    if (strcasestr(of->head, "\r\nUpgrade: echo")) {
        length = snprintf(text, sizeof text,
                          "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nVersion: %s\r\n\r\n",
                          version);
        of->upgraded = 1;
        last = 0;
    }
    of->due = of->length = 0;
    if (write(fds[i].fd, text, length) != length || last)
        drop(i);
}

static void hear(int i) {
    struct connection *of = &connections[i];
    ssize_t length = read(fds[i].fd, of->head + of->length, sizeof of->head - 1 - of->length);
    if (length <= 0 || (of->upgraded && write(fds[i].fd, of->head, length) != length))
        return drop(i);
    if (of->upgraded || of->due)
        return;
    of->length += length;
    of->head[of->length] = 0;
    if (strstr(of->head, "\r\n\r\n"))
        of->due = now() + (strncmp(of->head, "GET /slow ", 10) ? 0 : SLOW);
}

static void echo(void) {
    struct sockaddr_in6 from;
    socklen_t size = sizeof from;
    char buffer[2048];
    ssize_t length = recvfrom(fds[DATAGRAMS].fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &size);
    if (length >= 0)
        sendto(fds[DATAGRAMS].fd, buffer, length, 0, (struct sockaddr *)&from, size);
}

/* What time brings; how long there is none. */
static int pass(void) {
    long at = now(), next = ends;
    int open = 0;
    if (asked_to_end && !ending) {
        ending = at;
        drop(LISTENER);
        drop(DATAGRAMS);
    }
    if (ends >= 0 && at >= ends)
        _exit(3);
    if (greed > 0) {
        next = at + 20;
        if (at >= begun + 1000)
            taken = memset(malloc(1 << 20), 1, 1 << 20), greed--;
    }
    for (int i = FIRST; i < MOST; i++) {
        struct connection *of = &connections[i];
        if (fds[i].fd >= 0 && of->due && of->due <= at)
            answer(i);
        if (fds[i].fd >= 0 && ending && (of->upgraded || (!of->due && at >= ending + LINGER)))
            drop(i);
        if (fds[i].fd < 0)
            continue;
        long wake = of->due ? of->due : ending ? ending + LINGER : -1;
        next = wake >= 0 && (next < 0 || wake < next) ? wake : next;
        open = 1;
    }
    if (ending && !open)
        _exit(0);
    return next < 0 ? -1 : next > at ? next - at : 0;
}

int main(int argc, char **argv) {
    int deaf = 0, stubborn = 0;
    char name[64] = "";
    sigset_t all, none;
    begun = now();
    gethostname(name, sizeof name - 1);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "second") && strlen(name) > 1 && !strcmp(name + strlen(name) - 2, "-1"))
            break;
        deaf |= !strcmp(argv[i], "deaf");
        stubborn |= !strcmp(argv[i], "stubborn");
        greed = strcmp(argv[i], "memory") ? greed : 512;
        sick = strncmp(argv[i], "sick=", 5) ? sick : 1000 * atol(argv[i] + 5);
        flaps = strncmp(argv[i], "flaps=", 6) ? flaps : 1000 * atol(argv[i] + 6);
        ends = strncmp(argv[i], "exit=", 5) ? ends : begun + 1000 * atol(argv[i] + 5);
    }
    /* It comes between two turns only: PID 1 has no default handlers. */
    sigfillset(&all);
    sigemptyset(&none);
    sigprocmask(SIG_BLOCK, &all, NULL);
    signal(SIGTERM, stubborn ? SIG_IGN : terminate);
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < MOST; i++)
        fds[i].fd = -1;
    if (!deaf) {
        fds[LISTENER] = (struct pollfd){.fd = listening(8080, SOCK_STREAM), .events = POLLIN};
        fds[DATAGRAMS] = (struct pollfd){.fd = listening(8081, SOCK_DGRAM), .events = POLLIN};
    }
    for (;;) {
        int wait = pass();
        struct timespec time = {wait / 1000, wait % 1000 * 1000000L};
        if (ppoll(fds, MOST, wait < 0 ? NULL : &time, &none) <= 0)
            continue;
        for (int i = FIRST; i < MOST; i++)
            if (fds[i].fd >= 0 && fds[i].revents)
                hear(i);
        if (fds[DATAGRAMS].revents)
            echo();
        if (fds[LISTENER].revents)
            welcome();
    }
}
