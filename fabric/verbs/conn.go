//go:build verbs && cgo && linux

package verbs

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/pmem"
)

const (
	maxDepth      = 512
	spareRequests = 64 // work requests beyond two an operation
	receiveDepth  = 64 // buffers for what arrives; also RecvDepth
	maxInline     = 64
	maxSend       = 64 << 10

	portActive = 4 // IBTA 14.2.5.6: PortState

	// lastWords is how long a connection that the peer has ended waits for what its device may still have answered, and one
	// that this side ends for the peer to confirm it.
	lastWords = 100 * time.Millisecond
	confirm   = 500 * time.Millisecond
)

// What the two sides say over the socket, once, when their queue pair is gone.
const (
	byeClosed = 'C'
	byeFailed = 'E' // the device may have more to say about why
)

// conn is one end of a connection. The owner's goroutine runs Post and Poll; Arm and Wait of the endpoint look at its
// completion queue, too; and a goroutine, watch, waits for the socket to end. mu is for all three.
//
// Operations are numbered from 0: posted >= acked >= reported, in a ring of the queue's depth; the number is the work
// request's ID. The queue pair is destroyed at the first error, and with it everything under way: what is not acked by then
// is reported as lost, without waiting for the device to flush it.
type conn struct {
	ep   *Endpoint
	side *net.TCPConn
	peer string // its address
	mine offer
	plan
	scratchKey uint32
	scratch    uint64
	buffers    *block // receive buffers, then a slot for each operation
	over       chan struct{}
	once       sync.Once // frees
	closeErr   error

	mu       sync.Mutex
	q        *queue
	ring     []pending
	posted   uint64
	acked    uint64
	reported uint64
	filled   int    // requests that wait for the next doorbell
	rung     uint64 // work requests ever posted, those included
	freed    uint64 // work requests that the queue pair is through with
	silent   int    // work requests since the last signaled one
	silentOp int    // operations since
	written  written
	// unflushable: something was written through that visible does not make durable, under a key that allows no FLUSH
	unflushable bool
	fence       bool   // the next work request waits for READs before it
	stalled     bool   // nothing is posted any more, because the operation posted-1 then was bad
	fault       *fault // the device's first error
	receives    receives
	severed     bool  // the queue pair is gone
	why         error // the first reason
	unsure      bool  // the peer did not confirm the end
	freedAll    bool
	err         error // what every further completion says; nil while all is well
}

// pending is a posted operation.
type pending struct {
	id       uint64
	kind     fabric.Kind
	signaled bool
	last     uint64 // rung after its work requests
	err      error  // it is bad, and a request that does nothing was posted in its place
}

// fault is the operation that the device failed.
type fault struct {
	seq uint64
	err error
}

var _ fabric.Conn = (*conn)(nil)

// newConn makes this end's queue pair and buffers.
func (e *Endpoint) newConn(side *net.TCPConn) (_ *conn, err error) {
	c := &conn{ep: e, side: side, peer: side.RemoteAddr().String(), ring: make([]pending, e.depth), over: make(chan struct{})}
	if c.buffers, err = e.dev.newBlock(slotOff(0, e.depth)+e.depth*slotSize, accessLocalWrite); err != nil {
		return nil, err
	}
	if c.q, err = e.newQueue(); err != nil {
		c.buffers.free()
		return nil, fmt.Errorf("verbs: device %s: making a queue pair: %w", e.dev.name, err)
	}
	for i := range receiveDepth {
		if err = c.repost(i); err != nil {
			c.abandon()
			return nil, err
		}
	}
	c.mine = offer{
		qpn: c.q.number(), lid: e.lid, mtu: e.mtu, link: e.link, features: e.features, domain: e.domain,
		responder: uint8(max(1, min(e.dev.about.responder, 16))), initiator: uint8(max(1, min(e.dev.about.initiator, 16))),
		scratchKey: e.scratch.rkey, scratch: e.scratch.addr(0), gid: e.gid.raw,
	}
	if c.mine.psn, err = randomPacket(); err != nil {
		c.abandon()
		return nil, err
	}
	return c, nil
}

// abandon frees a connection that was not started.
func (c *conn) abandon() {
	if c != nil {
		c.mu.Lock()
		c.severed = true
		c.mu.Unlock()
		c.free()
	}
}

// start makes the connection one of the endpoint's.
func (c *conn) start() error {
	c.ep.mu.Lock()
	defer c.ep.mu.Unlock()
	if c.ep.closed {
		return fabric.ErrClosed
	}
	c.ep.conns[c] = struct{}{}
	c.ep.scanning.Lock()
	c.ep.polled = append(c.ep.polled, c)
	c.ep.scanning.Unlock()
	go c.watch()
	return nil
}

// watch ends the connection when the peer does, or when this side has and the peer knows.
func (c *conn) watch() {
	defer close(c.over)
	var said [1]byte
	n, err := io.ReadFull(c.side, said[:])
	if n == 0 || said[0] != byeClosed {
		c.listen()
	}
	reason := fmt.Errorf("%s has ended it", c.peer)
	if n == 0 && !errors.Is(err, io.EOF) {
		reason = fmt.Errorf("%s: %w", c.peer, err)
	}
	c.mu.Lock()
	c.unsure = c.severed && (errors.Is(err, unix.ETIMEDOUT) || isTimeout(err))
	c.mu.Unlock()
	c.sever(reason)
	c.side.Close() // this is how the peer knows, besides what sever wrote
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// listen waits for the device to tell of an error of what is under way: its answer may have been overtaken by the socket.
func (c *conn) listen() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(lastWords); time.Now().Before(end); <-tick.C {
		c.mu.Lock()
		c.drain()
		done := c.severed || c.freed == c.rung
		c.mu.Unlock()
		if done {
			return
		}
	}
}

// sever ends the queue pair for a reason, if it is there: nothing of this connection touches memory here afterwards.
func (c *conn) sever(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	c.broken(reason)
}

// broken is sever, under mu, and without a last look at the completion queue.
func (c *conn) broken(reason error) { c.finish(reason, byeFailed) }

func (c *conn) finish(reason error, bye byte) {
	if c.severed {
		return
	}
	c.why = reason
	if err := c.q.end(); err != nil {
		c.why = errors.Join(reason, fmt.Errorf("and its queue pair could not be destroyed: %w", err))
	}
	c.severed = true
	c.filled = 0
	c.side.SetDeadline(time.Now().Add(confirm)) // ends watch
	c.side.Write([]byte{bye})
	c.side.CloseWrite()
	c.ep.bell.ring()
}

// Close implements [fabric.Conn]. It waits for the peer to confirm that its end is gone, for half a second at most; the
// error is ErrInFlight if it did not, because it was stopped itself or the network was.
func (c *conn) Close() error { return c.shut() }

// shut is Close, for any goroutine.
func (c *conn) shut() error {
	c.mu.Lock()
	if c.err == nil {
		c.err = fabric.ErrFlushed
	}
	c.finish(errors.New("closed"), byeClosed)
	c.mu.Unlock()
	<-c.over
	err := c.free()
	c.ep.mu.Lock() // then only: Endpoint.Close ends the device when all that it finds is freed
	delete(c.ep.conns, c)
	c.ep.mu.Unlock()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsure {
		return fmt.Errorf("verbs: close of the connection to %s, which did not confirm it: %w", c.peer, fabric.ErrInFlight)
	}
	return nil
}

// free gives back what the device and the provider keep for the connection, which is severed.
func (c *conn) free() error {
	c.once.Do(func() {
		c.ep.scanning.Lock()
		c.ep.polled = slices.DeleteFunc(c.ep.polled, func(o *conn) bool { return o == c })
		c.ep.scanning.Unlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.freedAll = true
		c.receives.forget()
		c.closeErr = errors.Join(c.q.free(), c.buffers.free())
	})
	return c.closeErr
}

// Caps implements [fabric.Conn].
func (c *conn) Caps() fabric.Caps {
	return fabric.Caps{
		Provider:    "verbs",
		QueueDepth:  len(c.ring),
		RecvDepth:   receiveDepth,
		Inline:      maxInline,
		MaxSend:     maxSend,
		Atomics:     c.plan.atomics,
		NativeFlush: c.plan.flushNative || c.plan.flush && c.plan.domain != pmem.ADR,
		Domain:      c.plan.domain,
		NonTemporal: c.plan.nonTemporal,
	}
}

// drain takes in what the completion queue has, and says how much that was. Under mu.
func (c *conn) drain() (n int) {
	for !c.severed {
		done, err := c.q.poll()
		for i := range done {
			c.take(&done[i])
		}
		n += len(done)
		switch {
		case err != nil:
			c.broken(err)
		case c.fault != nil:
			c.broken(c.fault.err)
		case c.why != nil:
			c.broken(c.why)
		}
		if len(done) < cap(c.q.done) {
			break
		}
	}
	return n
}

// take is one work completion.
func (c *conn) take(d *workCompletion) {
	if d.id&received != 0 {
		c.arrive(int(d.id&^received), d)
		return
	}
	switch {
	case d.status == statusOK:
		c.acked = d.id + 1
		c.freed = c.ring[d.id%uint64(len(c.ring))].last
		return
	case c.fault != nil || c.why != nil: // it ends what the first error ended
		return
	}
	c.acked = d.id // those before it have succeeded, or would have said so
	kind := fabric.ErrBroken
	switch d.status {
	case statusFlushed:
		c.why = errors.New("the queue pair failed")
		return
	case statusAccess:
		kind = fabric.ErrAccess
	case statusLocal, statusLocalLen:
		kind = fabric.ErrLocal
	case statusBadOp, statusBadRemote:
		kind = fabric.ErrOp
	}
	c.fault = &fault{seq: d.id, err: fmt.Errorf("%w: %s: %s", kind, c.peer, statusText(d.status))}
}

// Post implements [fabric.Conn].
func (c *conn) Post(ops []fabric.Op) (taken int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	looked := false
	for ; taken < len(ops); taken++ {
		op := &ops[taken]
		if op.Kind == fabric.Recv {
			if !c.receives.post(op) {
				break
			}
			continue
		}
		need := c.requests(op)
		if !c.room(need) {
			if !looked {
				looked = true
				c.doorbell()
				if c.drain() > 0 {
					c.ep.bell.heard() // the owner has not polled it yet
				}
				c.retire()
			}
			if !c.room(need) {
				break
			}
		}
		c.add(op)
	}
	c.doorbell()
	return taken
}

// room says whether an operation finds a place.
func (c *conn) room(need int) bool {
	return c.posted-c.reported < uint64(len(c.ring)) && (c.severed || c.rung-c.freed+uint64(need) <= uint64(len(c.q.requests)))
}

// retire frees the places of operations that need no completion.
func (c *conn) retire() {
	for ; c.reported < c.acked; c.reported++ {
		if p := c.at(c.reported); p.signaled || p.err != nil || c.err != nil {
			return
		}
	}
}

func (c *conn) at(seq uint64) *pending { return &c.ring[seq%uint64(len(c.ring))] }

// doorbell hands over what was gathered: one call, one doorbell.
func (c *conn) doorbell() {
	if c.filled == 0 || c.severed {
		return
	}
	n := c.filled
	c.filled = 0
	if err := c.q.post(n); err != nil {
		c.broken(fmt.Errorf("posting %d work requests: %w", n, err))
	}
}

// Poll implements [fabric.Conn].
func (c *conn) Poll(dst []fabric.Completion) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	n := c.collect(dst)
	return n + c.collectReceives(dst[n:])
}

// collect moves completions of all but Recvs into dst.
func (c *conn) collect(dst []fabric.Completion) (n int) {
	for n < len(dst) && c.reported < c.posted {
		p := c.at(c.reported)
		done := fabric.Completion{ID: p.id, Kind: p.kind}
		switch {
		case c.err != nil:
			done.Err = c.err
		case c.reported < c.acked && p.err == nil:
			if p.kind == fabric.CompareSwap || p.kind == fabric.FetchAdd {
				done.Value = c.word(c.reported)
			}
		case c.reported < c.acked:
			done.Err = p.err
			c.fail()
		case c.fault != nil && c.reported == c.fault.seq:
			done.Err = c.fault.err
			c.fail()
		case c.severed:
			done.Err = c.lost()
			c.fail()
		default:
			return n
		}
		c.reported++
		if done.Err != nil || p.signaled {
			dst[n] = done
			n++
		}
	}
	return n
}

// fail: after the first error completion all others are errors too, and the connection ends.
func (c *conn) fail() {
	c.err = fabric.ErrFlushed
	c.broken(errors.New("an operation failed"))
}

// lost is the error of what was under way when the connection ended.
func (c *conn) lost() error { return fmt.Errorf("%w: %w", fabric.ErrBroken, c.why) }
