/* resolve NAME: what this libc's getaddrinfo finds, an address a line. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    if (argc != 2) {
        fprintf(stderr, "usage: resolve NAME\n");
        return 2;
    }
    int error = getaddrinfo(argv[1], NULL, &hints, &found);
    if (error) {
        fprintf(stderr, "%s: %s\n", argv[1], gai_strerror(error));
        return 1;
    }
    for (struct addrinfo *it = found; it; it = it->ai_next) {
        char text[INET6_ADDRSTRLEN];
        void *address = it->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)it->ai_addr)->sin_addr
                                                 : (void *)&((struct sockaddr_in6 *)it->ai_addr)->sin6_addr;
        puts(inet_ntop(it->ai_family, address, text, sizeof text));
    }
    return 0;
}
