//go:build verbs && cgo && linux

package verbs

// #cgo LDFLAGS: -libverbs
// #cgo noescape wv_post
// #cgo nocallback wv_post
// #cgo noescape wv_poll
// #cgo nocallback wv_poll
// #cgo noescape wv_receive
// #cgo nocallback wv_receive
// #cgo noescape wv_arm
// #cgo nocallback wv_arm
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is the only one that calls C. What C keeps is memory of C's own or mapped memory, by its address as a number;
// no pointer to Go's memory is handed over.

// workRequest is struct wv_request, workCompletion struct wv_done.
type workRequest struct {
	id, local, remote, a, b  uint64
	lkey, rkey, length       uint32
	op, flags, place, level_ uint8
	data                     [maxInline]byte
}

type workCompletion struct {
	id                         uint64
	status, imm, length, spare uint32
}

var (
	_ [unsafe.Sizeof(workRequest{})]byte    = [C.sizeof_struct_wv_request]byte{}
	_ [unsafe.Sizeof(workCompletion{})]byte = [C.sizeof_struct_wv_done]byte{}
)

const (
	opWrite       = C.WV_WRITE
	opWriteImm    = C.WV_WRITE_IMM
	opRead        = C.WV_READ
	opSend        = C.WV_SEND
	opCompareSwap = C.WV_COMPARE_SWAP
	opFetchAdd    = C.WV_FETCH_ADD
	opFlush       = C.WV_FLUSH
	opWrite8      = C.WV_WRITE8

	signaled = C.WV_SIGNALED
	fenced   = C.WV_FENCE
	inlined  = C.WV_INLINE

	// Of FLUSH (IBTA annex A19): what it makes of the bytes, and of which.
	placeVisible = 1
	placeDurable = 2
	levelRange   = 0
	levelRegion  = 1

	// Device capabilities that headers before rdma-core 45 do not name.
	capFlushVisible = 1 << 38
	capFlushDurable = 1 << 39
	capAtomicWrite  = 1 << 40

	accessLocalWrite   = C.IBV_ACCESS_LOCAL_WRITE
	accessWrite        = C.IBV_ACCESS_REMOTE_WRITE
	accessRead         = C.IBV_ACCESS_REMOTE_READ
	accessAtomic       = C.IBV_ACCESS_REMOTE_ATOMIC
	accessFlushVisible = C.WV_ACCESS_FLUSH_GLOBAL
	accessFlushDurable = C.WV_ACCESS_FLUSH_PERSISTENT

	statusOK        = C.IBV_WC_SUCCESS
	statusFlushed   = C.IBV_WC_WR_FLUSH_ERR
	statusAccess    = C.IBV_WC_REM_ACCESS_ERR
	statusLocal     = C.IBV_WC_LOC_PROT_ERR
	statusLocalLen  = C.IBV_WC_LOC_LEN_ERR
	statusBadOp     = C.IBV_WC_LOC_QP_OP_ERR
	statusBadRemote = C.IBV_WC_REM_INV_REQ_ERR
	linkEthernet    = C.IBV_LINK_LAYER_ETHERNET
)

func statusText(status uint32) string {
	return C.GoString(C.ibv_wc_status_str(C.enum_ibv_wc_status(status)))
}

// deviceNames lists the devices that the library finds.
func deviceNames() ([]string, error) {
	list, err := C.ibv_get_device_list(nil)
	if list == nil {
		return nil, fmt.Errorf("verbs: listing RDMA devices: %w: are the modules ib_uverbs and that of the card loaded?", err)
	}
	defer C.ibv_free_device_list(list)
	var names []string
	for _, d := range unsafe.Slice(list, 1<<16) { // a null pointer ends the list
		if d == nil {
			break
		}
		names = append(names, C.GoString(C.ibv_get_device_name(d)))
	}
	return names, nil
}

// device is an open device with a protection domain and a completion channel.
type device struct {
	name    string
	ctx     *C.struct_ibv_context
	pd      *C.struct_ibv_pd
	channel *C.struct_ibv_comp_channel
	about   C.struct_wv_device
}

func openDevice(name string) (_ *device, err error) {
	d := &device{name: name}
	defer func() {
		if err != nil {
			d.close()
			err = fmt.Errorf("verbs: device %s: %w", name, err)
		}
	}()
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	if d.ctx, err = C.wv_open(text); d.ctx == nil {
		return nil, err
	}
	about, _ := allocate[C.struct_wv_device](1)
	defer C.free(unsafe.Pointer(about))
	err = errnoOf(C.wv_query(d.ctx, about))
	d.about = *about
	return d, err
}

// use makes what connections need.
func (d *device) use() (err error) {
	if d.pd, err = C.ibv_alloc_pd(d.ctx); d.pd == nil {
		return fmt.Errorf("verbs: device %s: protection domain: %w", d.name, err)
	}
	if d.channel, err = C.ibv_create_comp_channel(d.ctx); d.channel == nil {
		return fmt.Errorf("verbs: device %s: completion channel: %w", d.name, err)
	}
	return errnoOf(C.wv_nonblocking(d.channel.fd))
}

func (d *device) close() error {
	if d.channel != nil {
		if err := errnoOf(C.ibv_destroy_comp_channel(d.channel)); err != nil {
			return fmt.Errorf("verbs: closing the completion channel of %s: %w", d.name, err)
		}
	}
	if d.pd != nil {
		if err := errnoOf(C.ibv_dealloc_pd(d.pd)); err != nil {
			return fmt.Errorf("verbs: closing the protection domain of %s: %w", d.name, err)
		}
	}
	if d.ctx != nil {
		C.ibv_close_device(d.ctx)
	}
	d.channel, d.pd, d.ctx = nil, nil, nil
	return nil
}

// has says whether the device has the capability.
func (d *device) has(capability uint64) bool { return uint64(d.about.flags)&capability != 0 }

// port is a port as the device describes it now.
func (d *device) port(n int) (C.struct_wv_port, error) {
	p, _ := allocate[C.struct_wv_port](1)
	defer C.free(unsafe.Pointer(p))
	err := errnoOf(C.wv_query_port(d.ctx, C.int(n), p))
	return *p, err
}

// gids are all addresses of all ports.
func (d *device) gids() ([]gid, error) {
	const most = 1024
	first, raw := allocate[C.struct_wv_gid](most)
	defer C.free(unsafe.Pointer(first))
	n := C.wv_gids(d.ctx, first, most)
	if n < 0 {
		return nil, syscall.Errno(-n)
	}
	var out []gid
	for _, g := range raw[:n] {
		out = append(out, gid{index: int(g.index), port: int(g.port), kind: int(g._type), raw: *(*[16]byte)(unsafe.Pointer(&g.gid))})
	}
	return out, nil
}

// gid is an entry of a port's address table.
type gid struct {
	index, port, kind int
	raw               [16]byte
}

var gidKinds = [...]string{C.IBV_GID_TYPE_IB: "IB", C.IBV_GID_TYPE_ROCE_V1: "RoCE v1", C.IBV_GID_TYPE_ROCE_V2: "RoCE v2"}

const gidRoCE2 = C.IBV_GID_TYPE_ROCE_V2

func (g *gid) addr() netip.Addr { return netip.AddrFrom16(g.raw).Unmap() }

func (g *gid) String() string {
	return fmt.Sprintf("port %d, GID %d: %s (%s)", g.port, g.index, g.addr(), gidKinds[g.kind%len(gidKinds)])
}

func describe(gids []gid) string {
	if len(gids) == 0 {
		return "none"
	}
	var texts []string
	for i := range gids {
		texts = append(texts, gids[i].String())
	}
	return strings.Join(texts, "; ")
}

// memoryRegion is memory that the device may use.
type memoryRegion struct {
	mr         *C.struct_ibv_mr
	lkey, rkey uint32
}

func (d *device) register(addr uintptr, n, iova uint64, access uint32) (memoryRegion, error) {
	mr, err := C.wv_register(d.pd, C.uint64_t(addr), C.uint64_t(n), C.uint64_t(iova), C.uint32_t(access))
	if mr == nil {
		return memoryRegion{}, err
	}
	return memoryRegion{mr: mr, lkey: uint32(mr.lkey), rkey: uint32(mr.rkey)}, nil
}

func (m memoryRegion) deregister() error { return errnoOf(C.ibv_dereg_mr(m.mr)) }

// queue is a queue pair and its completion queue.
type queue struct {
	c        *C.struct_wv_queue
	requests []workRequest
	done     []workCompletion
	ops      uint32
}

// Send operations that a queue pair is made for, as the library numbers them; the best set that the device takes is used.
const (
	sendBasic = C.IBV_QP_EX_WITH_RDMA_WRITE | C.IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | C.IBV_QP_EX_WITH_RDMA_READ |
		C.IBV_QP_EX_WITH_SEND
	sendAtomics = C.IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP | C.IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD
	sendFlush   = C.WV_SEND_OPS_FLUSH
	sendWrite8  = C.IBV_QP_EX_WITH_ATOMIC_WRITE
)

// newQueue makes a queue pair for so many requests; ops 0 means the older way to post, which every device has.
func (d *device) newQueue(sends, receives, inline int, ops uint32) (*queue, error) {
	c, _ := allocate[C.struct_wv_queue](1)
	q := &queue{c: c, ops: ops}
	if err := errnoOf(C.wv_queue_make(q.c, d.pd, d.channel, C.uint32_t(sends), C.uint32_t(receives), C.uint32_t(inline), C.uint32_t(ops))); err != nil {
		q.free()
		return nil, err
	}
	q.requests = unsafe.Slice((*workRequest)(unsafe.Pointer(q.c.requests)), sends)
	q.done = unsafe.Slice((*workCompletion)(unsafe.Pointer(q.c.done)), 64)
	return q, nil
}

func (q *queue) number() uint32 { return uint32(q.c.qp.qp_num) }

func (q *queue) init(port int, access uint32) error {
	return errnoOf(C.wv_queue_init(q.c, C.int(port), C.uint32_t(access)))
}

// path is what connecting takes, from both offers.
type path struct {
	mine, peer     *offer
	port, gidIndex int
}

func (q *queue) connect(p path) error {
	w, _ := allocate[C.struct_wv_path](1)
	defer C.free(unsafe.Pointer(w))
	*w = C.struct_wv_path{
		qpn: C.uint32_t(p.peer.qpn), psn: C.uint32_t(p.peer.psn), my_psn: C.uint32_t(p.mine.psn),
		mtu: C.uint32_t(min(p.mine.mtu, p.peer.mtu)), lid: C.uint32_t(p.peer.lid),
		gid_index: C.uint32_t(p.gidIndex), port: C.uint32_t(p.port),
		responder: C.uint32_t(min(p.mine.responder, p.peer.initiator)), initiator: C.uint32_t(min(p.mine.initiator, p.peer.responder)),
		gid: *(*[16]C.uint8_t)(unsafe.Pointer(&p.peer.gid)),
	}
	if p.mine.link == linkEthernet || p.peer.lid == 0 {
		w.global = 1
	}
	return errnoOf(C.wv_queue_connect(q.c, w))
}

// post hands over the first n of requests.
func (q *queue) post(n int) error { return errnoOf(C.wv_post(q.c, C.int(n))) }

// receive posts a buffer for one message.
func (q *queue) receive(id, addr uint64, n, lkey uint32) error {
	return errnoOf(C.wv_receive(q.c, C.uint64_t(id), C.uint64_t(addr), C.uint32_t(n), C.uint32_t(lkey)))
}

// poll is what has completed; it stands until the next call.
func (q *queue) poll() ([]workCompletion, error) {
	n := C.wv_poll(q.c, 64)
	if n < 0 {
		return nil, fmt.Errorf("polling the completion queue: %w", syscall.Errno(-n))
	}
	return q.done[:n], nil
}

// arm asks for an event with the next completion.
func (q *queue) arm() error { return errnoOf(C.wv_arm(q.c)) }

// stale says whether the completion channel holds an event of completions that were polled.
func (q *queue) stale() bool { return q.c.events > 0 }

// end destroys the queue pair. Nothing of it touches memory afterwards, here or from the peer.
func (q *queue) end() error { return errnoOf(C.wv_queue_end(q.c)) }

// alive says whether the queue pair is there.
func (q *queue) alive() bool { return q.c.qp != nil }

// free releases the rest.
func (q *queue) free() error { return errnoOf(C.wv_queue_free(q.c)) }

// takeEvents empties the completion channel.
func (d *device) takeEvents() { C.wv_take_events(d.channel) }

// follow waits for the device to fail, or for stop to be closed, which ends the wait at once. It holds no thread.
func (d *device) follow() (wait func() error, stop func(), err error) {
	if err := errnoOf(C.wv_nonblocking(d.ctx.async_fd)); err != nil {
		return nil, nil, err
	}
	fd, err := unix.FcntlInt(uintptr(d.ctx.async_fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(fd), d.name)
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	wait = func() (failed error) {
		err := raw.Read(func(uintptr) bool {
			for {
				switch event := C.wv_news(d.ctx); event {
				case -1:
					return false
				case C.IBV_EVENT_DEVICE_FATAL:
					failed = fmt.Errorf("device %s has failed or was removed", d.name)
					return true
				}
			}
		})
		if failed == nil {
			failed = err
		}
		return failed
	}
	return wait, func() { file.Close() }, nil
}

func (d *device) channelFD() int { return int(d.channel.fd) }

func errnoOf(n C.int) error {
	if n == 0 {
		return nil
	}
	if n < 0 {
		n = -n
	}
	return syscall.Errno(n)
}

// allocate is zeroed memory of C's for n values, to be freed with C.free.
func allocate[T any](n int) (*T, []T) {
	var one T
	p := (*T)(C.calloc(C.size_t(n), C.size_t(unsafe.Sizeof(one))))
	if p == nil {
		panic("verbs: out of memory")
	}
	return p, unsafe.Slice(p, n)
}
