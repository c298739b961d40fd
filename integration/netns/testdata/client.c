// An HTTP/1.0 client of nothing but libc: client HOST PORT.
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all, *a;
	char buffer[4096];
	int s = -1, err;
	ssize_t n;

	if (argc != 3)
		return 2;
	err = getaddrinfo(argv[1], argv[2], &hints, &all);
	if (err) {
		fprintf(stderr, "%s: %s\n", argv[1], gai_strerror(err));
		return 1;
	}
	for (a = all; a; a = a->ai_next) {
		s = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
		if (s >= 0 && connect(s, a->ai_addr, a->ai_addrlen) == 0)
			break;
		perror("connect");
	}
	if (!a)
		return 1;
	snprintf(buffer, sizeof buffer, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", argv[1]);
	if (write(s, buffer, strlen(buffer)) < 0)
		return 1;
	while ((n = read(s, buffer, sizeof buffer)) > 0)
		fwrite(buffer, 1, n, stdout);
	return n < 0;
}
