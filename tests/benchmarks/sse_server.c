/* A provider whose streams cost next to nothing: cc -O2 -o sse_server sse_server.c; sse_server PORT CHUNKS GAP_MS
 *
 * Whatever is posted with "stream": true is answered by CHUNKS events, one every GAP_MS, whose content is
 * "ts:MICROSECONDS " of the monotonic clock, then by the usage and [DONE]. All else is answered by one fixed
 * chat completion. In C because 25,000 events a second would keep an interpreter's core busy, on which the clients
 * live too.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FILES = 16384, MOST_WAITING = 65536, BUFFER = 262144, EVENTS = 512 };

struct connection {
    int is_open, left; /* events still to send; 0: no stream in work */
    unsigned life;     /* which stream of this file number it is: a waiting event of an earlier one is void */
    int length;
    char received[BUFFER];
};
struct waiting {
    long long due;
    int file;
    unsigned life;
};

static struct connection *connections[MOST_FILES];
/* All wait equally long, so the queue is in order of time without being sorted. */
static struct waiting queue[MOST_WAITING];
static unsigned first, end;
static int chunks;
static long long gap;

static const char STREAM_HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                                  "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
#define EVENT "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1763880000," \
              "\"model\":\"mock\",\"system_fingerprint\":\"fp_mock\",\"choices\":["
static const char PLAIN[] =
    "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1763880000,\"model\":\"mock\",\"choices\":"
    "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The capital of France is Paris.\"},"
    "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":42,\"completion_tokens\":38,"
    "\"total_tokens\":80}}";

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void wait_one_gap(int file) {
    queue[end++ % MOST_WAITING] = (struct waiting){now() + gap, file, connections[file]->life};
}

static int as_chunk(char *to, const char *data) { return sprintf(to, "%zx\r\n%s\r\n", strlen(data), data); }

static void send_next(int file, struct connection *c) {
    char data[1024], out[4096];
    int length = 0;
    if (c->left > 1) {
        sprintf(data, EVENT "{\"index\":0,\"delta\":{\"content\":\"ts:%lld \"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
                now());
        length = as_chunk(out, data);
    } else {
        length = as_chunk(out, EVENT "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n");
        sprintf(data, EVENT "],\"usage\":{\"prompt_tokens\":42,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n", chunks,
                chunks + 42);
        length += as_chunk(out + length, data);
        length += as_chunk(out + length, "data: [DONE]\n\n");
        length += sprintf(out + length, "0\r\n\r\n");
    }
    send(file, out, length, MSG_NOSIGNAL);
    if (--c->left) wait_one_gap(file);
}

static void answer(int file, struct connection *c, const char *body) {
    char *field = strstr(body, "\"stream\""), out[2048];
    if (field) field += strspn(field + 8, " :") + 8;
    if (field && !strncmp(field, "true", 4)) {
        send(file, STREAM_HEAD, sizeof STREAM_HEAD - 1, MSG_NOSIGNAL);
        c->left = chunks + 1;
        c->life++;
        wait_one_gap(file);
    } else {
        int length = sprintf(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                             sizeof PLAIN - 1, PLAIN);
        send(file, out, length, MSG_NOSIGNAL);
    }
}

/* Answers each request that has come whole. */
static void read_requests(int file, struct connection *c) {
    ssize_t got = recv(file, c->received + c->length, BUFFER - 1 - c->length, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        c->is_open = 0;
        close(file);
        return;
    }
    c->length += got;
    c->received[c->length] = 0;
    for (char *head_end; (head_end = strstr(c->received, "\r\n\r\n"));) {
        char *body = head_end + 4, *field;
        int whole = body - c->received;
        *head_end = 0;
        if ((field = strcasestr(c->received, "\r\ncontent-length:"))) whole += atoi(field + 17);
        else if (strcasestr(c->received, "\r\ntransfer-encoding:")) {
            char *last = strstr(body, "0\r\n\r\n");
            whole = last ? last + 5 - c->received : BUFFER;
        }
        *head_end = '\r';
        if (c->length < whole) return;
        char kept = c->received[whole];
        c->received[whole] = 0;
        answer(file, c, body);
        c->received[whole] = kept;
        memmove(c->received, c->received + whole, c->length - whole + 1);
        c->length -= whole;
    }
}

int main(int count, char **arguments) {
    struct rlimit files = {MOST_FILES, MOST_FILES};
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct epoll_event event = {.events = EPOLLIN}, events[EVENTS];
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    if (count != 4) return fprintf(stderr, "usage: sse_server PORT CHUNKS GAP_MS\n"), 2;
    chunks = atoi(arguments[2]), gap = atoi(arguments[3]) * 1000LL;
    setrlimit(RLIMIT_NOFILE, &files);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    address.sin_port = htons(atoi(arguments[1]));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) return perror("listen"), 1;
    event.data.fd = listener;
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        while (first != end && queue[first % MOST_WAITING].due <= now()) {
            struct waiting next = queue[first++ % MOST_WAITING];
            struct connection *c = connections[next.file];
            if (c->is_open && c->left && c->life == next.life) send_next(next.file, c);
        }
        long long rest = first == end ? -1 : queue[first % MOST_WAITING].due - now();
        int ready = epoll_wait(poll, events, EVENTS, first == end ? -1 : rest <= 0 ? 0 : (int)((rest + 999) / 1000));
        for (int i = 0; i < ready; i++) {
            int file = events[i].data.fd;
            if (file != listener) {
                read_requests(file, connections[file]);
                continue;
            }
            while ((file = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
                if (file >= MOST_FILES) {
                    close(file);
                    continue;
                }
                if (!connections[file]) connections[file] = calloc(1, sizeof(struct connection));
                struct connection *c = connections[file];
                c->is_open = 1, c->left = 0, c->length = 0, c->life++;
                setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = file};
                epoll_ctl(poll, EPOLL_CTL_ADD, file, &event);
            }
        }
    }
}
