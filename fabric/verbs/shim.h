// What Go calls: libibverbs has its hot calls as inline functions and macros, which cgo cannot reach, and one C call is to
// post a whole batch.
#pragma once
#include <infiniband/verbs.h>
#include <stdint.h>

// Numbers of the ABI that the headers of rdma-core before 45 do not have. The library says at run time whether it knows them.
enum {
	WV_SEND_OPS_FLUSH = 1 << 11,
	WV_ACCESS_FLUSH_GLOBAL = 1 << 8,
	WV_ACCESS_FLUSH_PERSISTENT = 1 << 9,
};

enum wv_op { WV_WRITE, WV_WRITE_IMM, WV_READ, WV_SEND, WV_COMPARE_SWAP, WV_FETCH_ADD, WV_FLUSH, WV_WRITE8 };
enum { WV_SIGNALED = 1, WV_FENCE = 2, WV_INLINE = 4 };

// struct wv_request is one work request; workRequest in Go has the same layout.
struct wv_request {
	uint64_t id, local, remote, a, b;
	uint32_t lkey, rkey, length;
	uint8_t op, flags, place, level;
	uint8_t data[64];
};

// struct wv_done is a work completion; workCompletion in Go has the same layout.
struct wv_done {
	uint64_t id;
	uint32_t status, imm, length, unused;
};

struct wv_device {
	uint64_t flags; // device_cap_flags_ex
	uint64_t max_mr;
	uint32_t max_wr, max_cqe, responder, initiator, atomics, vendor, part;
	char firmware[64];
};

struct wv_port {
	uint32_t state, mtu, link, lid, max_message;
};

struct wv_gid {
	uint8_t gid[16];
	uint32_t index, port, type;
};

// struct wv_queue is a queue pair with its completion queue.
struct wv_queue {
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_qp_ex *ex; // 0: the provider has no ibv_wr_*
	uint32_t ops;         // send_ops_flags that ex was made with
	uint32_t armed;       // an event comes with the next completion
	uint32_t events;      // an event has come, or is about to, that was not taken from the channel
	struct wv_request *requests;
	struct wv_done *done;
	struct ibv_send_wr *chain;
	struct ibv_sge *pieces;
};

// struct wv_path is what connecting a queue pair takes.
struct wv_path {
	uint32_t qpn, my_psn, psn, mtu, lid, gid_index, port, responder, initiator, global;
	uint8_t gid[16];
};

struct ibv_context *wv_open(const char *name);
int wv_query(struct ibv_context *, struct wv_device *);
int wv_query_port(struct ibv_context *, int port, struct wv_port *);
int wv_gids(struct ibv_context *, struct wv_gid *, int max);
struct ibv_mr *wv_register(struct ibv_pd *, uint64_t addr, uint64_t n, uint64_t iova, uint32_t access);
int wv_nonblocking(int fd);

int wv_queue_make(struct wv_queue *, struct ibv_pd *, struct ibv_comp_channel *, uint32_t sends, uint32_t receives, uint32_t inline_bytes,
		  uint32_t ops);
int wv_queue_init(struct wv_queue *, int port, uint32_t access);
int wv_queue_connect(struct wv_queue *, const struct wv_path *);
int wv_queue_end(struct wv_queue *);  // destroys the queue pair
int wv_queue_free(struct wv_queue *); // and the rest
int wv_post(struct wv_queue *, int n);
int wv_receive(struct wv_queue *, uint64_t id, uint64_t addr, uint32_t length, uint32_t lkey);
int wv_poll(struct wv_queue *, int max);
int wv_arm(struct wv_queue *);
void wv_take_events(struct ibv_comp_channel *);
int wv_news(struct ibv_context *); // an asynchronous event, or -1
