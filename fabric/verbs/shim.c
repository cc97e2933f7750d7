//go:build verbs

#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

struct ibv_context *wv_open(const char *name)
{
	struct ibv_context *found = NULL;
	struct ibv_device **list = ibv_get_device_list(NULL);
	if (!list)
		return NULL;
	errno = ENODEV;
	for (int i = 0; list[i]; i++) {
		if (strcmp(ibv_get_device_name(list[i]), name) == 0) {
			found = ibv_open_device(list[i]);
			break;
		}
	}
	int e = errno;
	ibv_free_device_list(list);
	errno = e;
	return found;
}

int wv_query(struct ibv_context *ctx, struct wv_device *d)
{
	struct ibv_device_attr_ex a = {0};
	int err = ibv_query_device_ex(ctx, NULL, &a);
	if (err)
		return err;
	d->flags = a.device_cap_flags_ex | (uint64_t)(uint32_t)a.orig_attr.device_cap_flags;
	d->max_mr = a.orig_attr.max_mr_size;
	d->max_wr = a.orig_attr.max_qp_wr;
	d->max_cqe = a.orig_attr.max_cqe;
	d->responder = a.orig_attr.max_qp_rd_atom;
	d->initiator = a.orig_attr.max_qp_init_rd_atom;
	d->atomics = a.orig_attr.atomic_cap;
	d->vendor = a.orig_attr.vendor_id;
	d->part = a.orig_attr.vendor_part_id;
	memcpy(d->firmware, a.orig_attr.fw_ver, sizeof d->firmware);
	d->firmware[sizeof d->firmware - 1] = 0;
	return 0;
}

int wv_query_port(struct ibv_context *ctx, int port, struct wv_port *p)
{
	struct ibv_port_attr a;
	memset(&a, 0, sizeof a);
	int err = ibv_query_port(ctx, port, &a);
	if (err)
		return err;
	p->state = a.state;
	p->mtu = a.active_mtu;
	p->link = a.link_layer;
	p->lid = a.lid;
	p->max_message = a.max_msg_sz;
	return 0;
}

int wv_gids(struct ibv_context *ctx, struct wv_gid *out, int max)
{
	struct ibv_gid_entry *e = calloc(max, sizeof *e);
	if (!e)
		return -ENOMEM;
	ssize_t n = ibv_query_gid_table(ctx, e, max, 0);
	for (ssize_t i = 0; i < n; i++) {
		memcpy(out[i].gid, e[i].gid.raw, 16);
		out[i].index = e[i].gid_index;
		out[i].port = e[i].port_num;
		out[i].type = e[i].gid_type;
	}
	free(e);
	return n;
}

struct ibv_mr *wv_register(struct ibv_pd *pd, uint64_t addr, uint64_t n, uint64_t iova, uint32_t access)
{
	return ibv_reg_mr_iova(pd, (void *)(uintptr_t)addr, n, iova, access);
}

int wv_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? errno : 0;
}

int wv_queue_make(struct wv_queue *q, struct ibv_pd *pd, struct ibv_comp_channel *channel, uint32_t sends, uint32_t receives,
		  uint32_t inline_bytes, uint32_t ops)
{
	q->requests = calloc(sends, sizeof *q->requests);
	q->done = calloc(64, sizeof *q->done);
	q->chain = calloc(sends, sizeof *q->chain);
	q->pieces = calloc(sends, sizeof *q->pieces);
	if (!q->requests || !q->done || !q->chain || !q->pieces)
		return ENOMEM;
	q->cq = ibv_create_cq(pd->context, sends + receives, q, channel, 0);
	if (!q->cq)
		return errno ? errno : EIO;
	struct ibv_qp_init_attr_ex a = {
		.send_cq = q->cq,
		.recv_cq = q->cq,
		.cap = {.max_send_wr = sends, .max_recv_wr = receives, .max_send_sge = 1, .max_recv_sge = 1, .max_inline_data = inline_bytes},
		.qp_type = IBV_QPT_RC,
		.comp_mask = IBV_QP_INIT_ATTR_PD | (ops ? IBV_QP_INIT_ATTR_SEND_OPS_FLAGS : 0),
		.pd = pd,
		.send_ops_flags = ops,
	};
	q->qp = ibv_create_qp_ex(pd->context, &a);
	if (!q->qp)
		return errno ? errno : EIO;
	q->ops = ops;
	q->ex = ops ? ibv_qp_to_qp_ex(q->qp) : NULL;
	return 0;
}

int wv_queue_init(struct wv_queue *q, int port, uint32_t access)
{
	struct ibv_qp_attr a = {.qp_state = IBV_QPS_INIT, .port_num = port, .qp_access_flags = access};
	return ibv_modify_qp(q->qp, &a, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

int wv_queue_connect(struct wv_queue *q, const struct wv_path *p)
{
	struct ibv_qp_attr a = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = p->mtu,
		.dest_qp_num = p->qpn,
		.rq_psn = p->psn,
		.max_dest_rd_atomic = p->responder,
		.min_rnr_timer = 12, // 0.64 ms
		.ah_attr = {.dlid = p->lid, .port_num = p->port, .is_global = p->global},
	};
	if (p->global) {
		memcpy(a.ah_attr.grh.dgid.raw, p->gid, 16);
		a.ah_attr.grh.sgid_index = p->gid_index;
		a.ah_attr.grh.hop_limit = 64;
	}
	int err = ibv_modify_qp(q->qp, &a,
				IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
					IBV_QP_MIN_RNR_TIMER);
	if (err)
		return err;
	memset(&a, 0, sizeof a);
	a.qp_state = IBV_QPS_RTS;
	a.timeout = 17; // 0.54 s: what is lost within a message the responder reports at once
	a.retry_cnt = 7;
	a.rnr_retry = 7; // for ever
	a.sq_psn = p->my_psn;
	a.max_rd_atomic = p->initiator;
	return ibv_modify_qp(q->qp, &a,
			     IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

int wv_queue_end(struct wv_queue *q)
{
	int err = q->qp ? ibv_destroy_qp(q->qp) : 0;
	if (!err) {
		q->qp = NULL;
		q->ex = NULL;
	}
	return err;
}

int wv_queue_free(struct wv_queue *q)
{
	int err = wv_queue_end(q);
	if (!err && q->cq)
		err = ibv_destroy_cq(q->cq);
	if (err)
		return err; // what the device may still use is kept
	free(q->requests);
	free(q->done);
	free(q->chain);
	free(q->pieces);
	free(q);
	return 0;
}

// wr_flush stands behind wr_atomic_write in struct ibv_qp_ex, which only grows; older headers do not name it. It is there
// if the library took WV_SEND_OPS_FLUSH.
static void flush(struct ibv_qp_ex *x, const struct wv_request *r)
{
	typedef void (*wr_flush)(struct ibv_qp_ex *, uint32_t, uint64_t, size_t, uint8_t, uint8_t);
	wr_flush f;
	memcpy(&f, (char *)x + offsetof(struct ibv_qp_ex, wr_atomic_write) + sizeof(void *), sizeof f);
	f(x, r->rkey, r->remote, r->length, r->place, r->level);
}

static int post_ex(struct wv_queue *q, int n)
{
	struct ibv_qp_ex *x = q->ex;
	ibv_wr_start(x);
	for (int i = 0; i < n; i++) {
		struct wv_request *r = &q->requests[i];
		x->wr_id = r->id;
		x->wr_flags = (r->flags & WV_SIGNALED ? IBV_SEND_SIGNALED : 0) | (r->flags & WV_FENCE ? IBV_SEND_FENCE : 0) |
			      (r->flags & WV_INLINE ? IBV_SEND_INLINE : 0);
		switch (r->op) {
		case WV_WRITE:
			ibv_wr_rdma_write(x, r->rkey, r->remote);
			break;
		case WV_WRITE_IMM:
			ibv_wr_rdma_write_imm(x, r->rkey, r->remote, 0);
			break;
		case WV_READ:
			ibv_wr_rdma_read(x, r->rkey, r->remote);
			break;
		case WV_SEND:
			ibv_wr_send(x);
			break;
		case WV_COMPARE_SWAP:
			ibv_wr_atomic_cmp_swp(x, r->rkey, r->remote, r->a, r->b);
			break;
		case WV_FETCH_ADD:
			ibv_wr_atomic_fetch_add(x, r->rkey, r->remote, r->a);
			break;
		case WV_FLUSH:
			flush(x, r);
			continue;
		case WV_WRITE8:
			ibv_wr_atomic_write(x, r->rkey, r->remote, r->data);
			continue;
		}
		if (r->flags & WV_INLINE)
			ibv_wr_set_inline_data(x, r->data, r->length);
		else if (r->length)
			ibv_wr_set_sge(x, r->lkey, r->local, r->length);
		else
			ibv_wr_set_sge_list(x, 0, NULL);
	}
	return ibv_wr_complete(x);
}

static int post_chain(struct wv_queue *q, int n)
{
	static const enum ibv_wr_opcode opcodes[] = {
		[WV_WRITE] = IBV_WR_RDMA_WRITE,
		[WV_WRITE_IMM] = IBV_WR_RDMA_WRITE_WITH_IMM,
		[WV_READ] = IBV_WR_RDMA_READ,
		[WV_SEND] = IBV_WR_SEND,
		[WV_COMPARE_SWAP] = IBV_WR_ATOMIC_CMP_AND_SWP,
		[WV_FETCH_ADD] = IBV_WR_ATOMIC_FETCH_AND_ADD,
	};
	for (int i = 0; i < n; i++) {
		struct wv_request *r = &q->requests[i];
		struct ibv_send_wr *w = &q->chain[i];
		struct ibv_sge *s = &q->pieces[i];
		if (r->op > WV_FETCH_ADD)
			return EOPNOTSUPP;
		s->addr = r->flags & WV_INLINE ? (uintptr_t)r->data : r->local;
		s->length = r->length;
		s->lkey = r->lkey;
		memset(w, 0, sizeof *w);
		w->wr_id = r->id;
		w->next = i + 1 < n ? w + 1 : NULL;
		w->sg_list = s;
		w->num_sge = r->length ? 1 : 0;
		w->opcode = opcodes[r->op];
		w->send_flags = (r->flags & WV_SIGNALED ? IBV_SEND_SIGNALED : 0) | (r->flags & WV_FENCE ? IBV_SEND_FENCE : 0) |
				(r->flags & WV_INLINE ? IBV_SEND_INLINE : 0);
		if (r->op == WV_COMPARE_SWAP || r->op == WV_FETCH_ADD) {
			w->wr.atomic.remote_addr = r->remote;
			w->wr.atomic.rkey = r->rkey;
			w->wr.atomic.compare_add = r->a;
			w->wr.atomic.swap = r->b;
		} else {
			w->wr.rdma.remote_addr = r->remote;
			w->wr.rdma.rkey = r->rkey;
		}
	}
	struct ibv_send_wr *bad;
	return ibv_post_send(q->qp, q->chain, &bad);
}

int wv_post(struct wv_queue *q, int n)
{
	return q->ex ? post_ex(q, n) : post_chain(q, n);
}

int wv_receive(struct wv_queue *q, uint64_t id, uint64_t addr, uint32_t length, uint32_t lkey)
{
	struct ibv_sge s = {.addr = addr, .length = length, .lkey = lkey};
	struct ibv_recv_wr w = {.wr_id = id, .sg_list = &s, .num_sge = 1}, *bad;
	return ibv_post_recv(q->qp, &w, &bad);
}

int wv_poll(struct wv_queue *q, int max)
{
	struct ibv_wc wc[64];
	int n = ibv_poll_cq(q->cq, max < 64 ? max : 64, wc);
	for (int i = 0; i < n; i++) {
		struct wv_done *d = &q->done[i];
		d->id = wc[i].wr_id;
		d->status = wc[i].status;
		d->imm = wc[i].status == IBV_WC_SUCCESS && wc[i].opcode == IBV_WC_RECV_RDMA_WITH_IMM;
		d->length = wc[i].byte_len;
	}
	if (n > 0 && q->armed) {
		q->armed = 0;
		q->events++;
	}
	return n;
}

int wv_arm(struct wv_queue *q)
{
	if (q->armed)
		return 0;
	int err = ibv_req_notify_cq(q->cq, 0);
	if (!err)
		q->armed = 1;
	return err;
}

void wv_take_events(struct ibv_comp_channel *channel)
{
	struct ibv_cq *cq;
	void *context;
	while (ibv_get_cq_event(channel, &cq, &context) == 0) {
		struct wv_queue *q = context;
		q->armed = 0;
		q->events = 0;
		ibv_ack_cq_events(cq, 1);
	}
}

int wv_news(struct ibv_context *ctx)
{
	struct ibv_async_event e;
	if (ibv_get_async_event(ctx, &e))
		return -1;
	ibv_ack_async_event(&e);
	return e.event_type;
}
