/* Writes down whom a process wants to reach outside this machine, and lets it reach nobody.
 *
 * Loaded with LD_PRELOAD by tests/test_telemetry.py: no privilege is needed, and nothing is sent to
 * anybody while it is found out. It sees what goes through the C library, as curl inside
 * onnxruntime does; the test's control shows that. One line a call, appended to $NETWORK_LOG:
 * the call, whom it wants, and CLOCK_MONOTONIC in seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void note(const char *call, const char *whom) {
  char line[512];
  const char *path = getenv("NETWORK_LOG");
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int size = snprintf(line, sizeof line, "%s %s %.3f\n", call, whom ? whom : "",
                      now.tv_sec + now.tv_nsec / 1e9);
  int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
  if (file < 0 || write(file, line, size) != size) abort();
  close(file);
}

/* Whether an address is of another machine; then it is written down. */
static int outside(const char *call, const struct sockaddr *to) {
  char text[INET6_ADDRSTRLEN] = "";
  if (to && to->sa_family == AF_INET) {
    const struct in_addr *address = &((const struct sockaddr_in *)to)->sin_addr;
    if (ntohl(address->s_addr) >> 24 == 127) return 0;
    inet_ntop(AF_INET, address, text, sizeof text);
  } else if (to && to->sa_family == AF_INET6) {
    const struct in6_addr *address = &((const struct sockaddr_in6 *)to)->sin6_addr;
    if (IN6_IS_ADDR_LOOPBACK(address)) return 0;
    inet_ntop(AF_INET6, address, text, sizeof text);
  } else {
    return 0;
  }
  note(call, text);
  errno = ENETUNREACH;
  return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
  if (!host || !strcmp(host, "localhost") || !strncmp(host, "127.", 4) || !strcmp(host, "::1"))
    return REAL(getaddrinfo)(host, service, hints, found);
  note("getaddrinfo", host);
  return EAI_FAIL;
}

struct hostent *gethostbyname(const char *host) {
  note("gethostbyname", host);
  return NULL;
}

int connect(int socket, const struct sockaddr *to, socklen_t size) {
  return outside("connect", to) ? -1 : REAL(connect)(socket, to, size);
}

ssize_t sendto(int socket, const void *data, size_t length, int flags, const struct sockaddr *to,
               socklen_t size) {
  return outside("sendto", to) ? -1 : REAL(sendto)(socket, data, length, flags, to, size);
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags) {
  return outside("sendmsg", message->msg_name) ? -1 : REAL(sendmsg)(socket, message, flags);
}
