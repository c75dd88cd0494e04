/* Clients that open many streams at once: cc -O2 -o sse_load sse_load.c;
 * sse_load PORT STREAMS CHUNKS SECONDS < REQUEST
 *
 * Each sends the bytes of REQUEST and reads its answer to [DONE]. Prints one line of JSON: how many answers were
 * whole (200, CHUNKS marks "ts:MICROSECONDS ", [DONE]); the milliseconds from sending to the first chunk, and those
 * that a chunk was under way, each as median and 99th percentile; all seconds; and the CPU seconds of this program.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FILES = 16384, READ = 262144, CARRY = 64, EVENTS = 512 };

struct stream {
    long long began, first;
    int has_head, is_refused, chunks, carried;
    char carry[CARRY]; /* the end of what was read, in which a mark may have begun */
};

static struct stream streams[MOST_FILES];
static double *firsts, *lags;
static long first_count, lag_count, lag_most;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int ascending(const void *a, const void *b) {
    double difference = *(double *)a - *(double *)b;
    return (difference > 0) - (difference < 0);
}

static double percentile(double *sorted, long count, double share) {
    return count ? sorted[(long)(share * (count - 1) + 0.5)] : -1;
}

/* Counts the marks of what has come; gives whether the stream has ended. */
static int read_marks(struct stream *s, char *text, int length, long long at) {
    char *from = text, *limit = text + length, *mark;
    if (!s->has_head && length >= 12) {
        s->has_head = 1;
        s->is_refused = strncmp(text, "HTTP/1.1 200", 12) != 0;
    }
    while ((mark = memmem(from, limit - from, "ts:", 3))) {
        char *after = mark + 3 + strspn(mark + 3, "0123456789"); /* none: it was a header's name */
        if (after >= limit) break; /* the rest is still to come */
        long long sent = atoll(mark + 3);
        if (*after == ' ' && after > mark + 3) {
            if (!s->first) {
                s->first = at;
                firsts[first_count++] = (at - s->began) / 1e3;
            }
            if (lag_count < lag_most) lags[lag_count++] = (at - sent) / 1e3;
            s->chunks++;
        }
        from = after;
    }
    if (memmem(from, limit - from, "[DONE]", 6)) return 1;
    s->carried = limit - from < CARRY - 1 ? limit - from : CARRY - 1;
    memcpy(s->carry, limit - s->carried, s->carried);
    return 0;
}

int main(int count, char **arguments) {
    static char request[READ], text[READ + CARRY + 1];
    struct rlimit files = {MOST_FILES, MOST_FILES};
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct epoll_event event, events[EVENTS];
    struct rusage used;
    int poll = epoll_create1(0), one = 1, whole = 0, refused = 0;
    if (count != 5) return fprintf(stderr, "usage: sse_load PORT STREAMS CHUNKS SECONDS < REQUEST\n"), 2;
    int wanted = atoi(arguments[2]), chunks = atoi(arguments[3]), left = wanted;
    size_t request_length = fread(request, 1, sizeof request, stdin);
    setrlimit(RLIMIT_NOFILE, &files);
    address.sin_port = htons(atoi(arguments[1]));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    lag_most = (long)wanted * chunks;
    firsts = malloc(wanted * sizeof(double)), lags = malloc(lag_most * sizeof(double));
    long long began = now(), deadline = began + (long long)(atof(arguments[4]) * 1e6);
    for (int i = 0; i < wanted; i++) {
        int file = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (file < 0 || file >= MOST_FILES) return fprintf(stderr, "too few files may be open\n"), 1;
        streams[file] = (struct stream){.began = now()};
        setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (connect(file, (void *)&address, sizeof address) && errno != EINPROGRESS) {
            close(file), left--;
            continue;
        }
        event = (struct epoll_event){.events = EPOLLOUT, .data.fd = file};
        epoll_ctl(poll, EPOLL_CTL_ADD, file, &event);
    }
    while (left && now() < deadline) {
        int ready = epoll_wait(poll, events, EVENTS, 200);
        for (int i = 0; i < ready; i++) {
            int file = events[i].data.fd;
            struct stream *s = &streams[file];
            if (events[i].events & EPOLLOUT) {
                if (send(file, request, request_length, MSG_NOSIGNAL) < 0) {
                    close(file), left--;
                    continue;
                }
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = file};
                epoll_ctl(poll, EPOLL_CTL_MOD, file, &event);
                continue;
            }
            memcpy(text, s->carry, s->carried);
            ssize_t got = recv(file, text + s->carried, READ, 0);
            if (got < 0 && errno == EAGAIN) continue;
            int length = s->carried + (got > 0 ? got : 0), has_ended = got <= 0;
            text[length] = 0;
            if (got > 0) has_ended = read_marks(s, text, length, now());
            if (!has_ended && !s->is_refused) continue;
            whole += got > 0 && !s->is_refused && s->chunks == chunks;
            refused += s->is_refused;
            close(file), left--;
        }
    }
    double seconds = (now() - began) / 1e6;
    qsort(firsts, first_count, sizeof(double), ascending);
    qsort(lags, lag_count, sizeof(double), ascending);
    getrusage(RUSAGE_SELF, &used);
    printf("{\"streams\": %d, \"whole\": %d, \"refused\": %d, \"unfinished\": %d, \"first_p50_ms\": %.1f, "
           "\"first_p99_ms\": %.1f, \"lag_p50_ms\": %.2f, \"lag_p99_ms\": %.2f, \"seconds\": %.2f, \"cpu_seconds\": %.2f}\n",
           wanted, whole, refused, left, percentile(firsts, first_count, .5), percentile(firsts, first_count, .99),
           percentile(lags, lag_count, .5), percentile(lags, lag_count, .99), seconds,
           used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    return 0;
}
