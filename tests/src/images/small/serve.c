/* serve NAME: what load and probes talk to, from inside a replica, until SIGTERM.
   Port 7000 says NAME (TCP, UDP), 7001 gives back what comes over a connection, 7002 the first octets of one,
   7003 each datagram. */
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int listening(int port, int type) {
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int yes = 1, fd = socket(AF_INET6, type, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || (type == SOCK_STREAM && listen(fd, 128))) {
        perror("serve");
        _exit(1);
    }
    return fd;
}

static void end(int signal) {
    _exit(0);
}

static void converse(int fd, int port, const char *name) {
    char buffer[4096];
    ssize_t length;
    while ((length = read(fd, buffer, sizeof buffer)) > 0) {
        if (port == 7000 ? write(fd, name, strlen(name)) < 0 : write(fd, buffer, length) < 0)
            break;
        if (port != 7001)
            break;
    }
    _exit(0);
}

int main(int argc, char **argv) {
    static const int tcp[] = {7000, 7001, 7002}, udp[] = {7000, 7003};
    struct pollfd fds[5];
    if (argc != 2)
        return 2;
    /* PID 1 has no default handlers. */
    signal(SIGTERM, end);
    signal(SIGCHLD, SIG_IGN);
    for (int i = 0; i < 5; i++) {
        fds[i].fd = i < 3 ? listening(tcp[i], SOCK_STREAM) : listening(udp[i - 3], SOCK_DGRAM);
        fds[i].events = POLLIN;
    }
    for (;;) {
        if (poll(fds, 5, -1) < 0)
            continue;
        for (int i = 0; i < 5; i++) {
            if (!fds[i].revents)
                continue;
            if (i < 3) {
                int fd = accept(fds[i].fd, NULL, NULL);
                if (fd >= 0 && !fork())
                    converse(fd, tcp[i], argv[1]);
                close(fd);
            } else {
                struct sockaddr_in6 from;
                socklen_t size = sizeof from;
                char buffer[2048];
                ssize_t length = recvfrom(fds[i].fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &size);
                if (length >= 0 && udp[i - 3] == 7000)
                    sendto(fds[i].fd, argv[1], strlen(argv[1]), 0, (struct sockaddr *)&from, size);
                else if (length >= 0)
                    sendto(fds[i].fd, buffer, length, 0, (struct sockaddr *)&from, size);
            }
        }
    }
}
