package tcp

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/fabric/internal/rules"
	"whale/pmem"
)

const (
	queueDepth = 1024
	recvDepth  = 1024
	maxInline  = 64
	maxSend    = maxPayload
	ackEvery   = queueDepth / 4 // of operations that ask for no completion

	// lastWords is how long a connection that has ended in one direction waits for what the other one still has to say.
	lastWords = 500 * time.Millisecond
)

// conn is one end of a connection. The owner's goroutine runs Post and Poll; beside it run
//
//   - target.run, which executes the peer's requests on the socket of the peer's requests (target.go),
//   - conn.listen, which takes in the last replies to ours, on the other socket, once the end has begun (reply.go),
//   - sender.drain, which sends what that socket did not take at once (send.go).
//
// Operations are numbered from 0. posted >= encoded >= acked >= reported, in a ring of queueDepth.
type conn struct {
	ep     *Endpoint
	peer   string // its address
	domain pmem.Domain
	out    *outlet
	send   sender
	target *target

	ring     []pending
	posted   uint64        // owner
	encoded  uint64        // owner: all their frames were handed to the sender
	part     uint64        // owner: bytes of operation encoded that were
	sent     atomic.Uint64 // owner: encoded, for who takes in replies
	acked    atomic.Uint64 // hearing: executed, and what belongs to them is here
	landing  uint64        // hearing: bytes of Read acked that are here
	reported uint64        // owner
	parked   uint64        // owner: bell.parked at the last overhear
	hearing  hearing
	waitFor  uint64 // owner: a Fenced operation waits until so many are acked
	stalled  bool   // owner: nothing is encoded any more, because operation encoded-1 is bad
	fault    atomic.Pointer[fault]
	receives receives
	err      error // owner: what every further completion says; nil while all is well

	closing atomic.Bool
	quit    chan struct{} // closed with closing
	end     sync.Once
	running atomic.Int32 // goroutines
	over    chan struct{}
	gone    atomic.Bool // over is closed
	unsure  atomic.Bool // the peer did not confirm the end
	why     atomic.Pointer[string]
}

// pending is a posted operation. Its owner is the owner of the connection, except for value between sent and acked.
type pending struct {
	op     fabric.Op
	value  uint64
	err    error // it is bad, and a Fence was sent in its place
	copied bool  // inline holds the bytes
	inline [maxInline]byte
}

// fault is an operation that the peer refused, or whose answer could not be taken in.
type fault struct {
	seq uint64
	err error
}

var _ fabric.Conn = (*conn)(nil)

func (e *Endpoint) newConn(out, in socket, domain pmem.Domain) (*conn, error) {
	c := &conn{
		ep: e, peer: out.RemoteAddr().String(), domain: domain,
		ring: make([]pending, queueDepth), quit: make(chan struct{}), over: make(chan struct{}),
	}
	c.receives.food = make(chan struct{}, 1)
	c.target = newTarget(c, in)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fabric.ErrClosed
	}
	var err error
	if c.out, err = detach(out); err != nil {
		return nil, err
	}
	if err := e.bell.hear(c.out); err != nil {
		c.out.Close()
		return nil, fmt.Errorf("tcp: epoll: %w", err)
	}
	c.hearing.in = stream{from: c.out, buf: make([]byte, streamSize)}
	c.send.init(c.out, e.bell.ring)
	e.conns[c] = struct{}{}
	c.running.Store(3)
	go func() {
		c.ended(c.target.run())
		in.Close()
		// What the peer has answered may still be on its way; it has ended, or is about to.
		c.out.hurry()
		c.exit()
	}()
	go func() {
		err := c.listen()
		c.unsure.Store(errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.ETIMEDOUT))
		c.ended(err)
		c.out.Close()
		c.windDown()
		c.exit()
	}()
	go func() {
		c.send.drain()
		c.exit()
	}()
	return c, nil
}

// ended notes why the connection ends, the first time.
func (c *conn) ended(err error) {
	why := fmt.Sprintf("%s: %v", c.peer, err)
	c.why.CompareAndSwap(nil, &why)
}

// exit is the end of a goroutine.
func (c *conn) exit() {
	if c.running.Add(-1) > 0 {
		return
	}
	c.ep.mu.Lock()
	delete(c.ep.conns, c)
	c.ep.mu.Unlock()
	c.gone.Store(true)
	close(c.over)
	c.ep.bell.ring()
}

// windDown begins the end: no request of the peer is executed any more, none of ours is sent. The peer sees the end of
// both sockets, does the same, and closes its end of them once its target has stopped. Any goroutine; does not wait.
func (c *conn) windDown() {
	c.end.Do(func() {
		c.closing.Store(true)
		close(c.quit)
		c.target.sock.SetDeadline(time.Unix(1, 0))
		c.send.mu.Lock()
		c.send.stop()
		c.send.mu.Unlock()
	})
}

// Close implements [fabric.Conn]. It waits for the peer to confirm that it has stopped executing what was posted, for
// half a second at most; the error is ErrInFlight if it did not, because it was stopped itself or the network was.
func (c *conn) Close() error {
	if c.err == nil {
		c.err = fabric.ErrFlushed
	}
	return c.shut()
}

// shut is Close, for any goroutine.
func (c *conn) shut() error {
	if !c.gone.Load() {
		c.windDown()
		<-c.over
		if c.unsure.Load() {
			return fmt.Errorf("tcp: close of the connection to %s, which did not confirm it: %w", c.peer, fabric.ErrInFlight)
		}
	}
	return nil
}

// fail: after the first error completion all others are errors too, and the connection ends.
func (c *conn) fail() {
	c.err = fabric.ErrFlushed
	c.windDown()
}

// lost is the error of an operation that was under way when the connection ended.
func (c *conn) lost() error {
	why := "closed"
	if text := c.why.Load(); text != nil {
		why = *text
	}
	return fmt.Errorf("%w: %s", fabric.ErrBroken, why)
}

// Caps implements [fabric.Conn].
func (c *conn) Caps() fabric.Caps {
	return fabric.Caps{
		Provider:    "tcp",
		QueueDepth:  queueDepth,
		RecvDepth:   recvDepth,
		Inline:      maxInline,
		MaxSend:     maxSend,
		Atomics:     true,
		NativeFlush: true, // executed by the target, behind the writes
		Domain:      c.domain,
		NonTemporal: c.domain != pmem.None, // the target's CPU fences between them
	}
}

// Post implements [fabric.Conn].
func (c *conn) Post(ops []fabric.Op) (taken int) {
	first := c.posted
	for ; taken < len(ops); taken++ {
		op := &ops[taken]
		if op.Kind == fabric.Recv {
			if !c.receives.post(op) {
				break
			}
			continue
		}
		if c.posted-c.reported == queueDepth {
			if c.retire(); c.posted-c.reported == queueDepth {
				break
			}
		}
		p := &c.ring[c.posted%queueDepth]
		p.op, p.err, p.copied = *op, nil, false
		c.posted++
	}
	if c.encoded < c.posted {
		c.pump()
	}
	if at := max(first, c.encoded); at < c.posted {
		if err := c.keepInlines(at); err != nil {
			c.ended(err)
			c.windDown()
		}
	}
	return taken
}

// retire frees the places of operations that need no completion.
func (c *conn) retire() {
	for acked := c.acked.Load(); c.reported < acked; c.reported++ {
		if p := &c.ring[c.reported%queueDepth]; p.op.Flags&fabric.Signaled != 0 || p.err != nil || c.err != nil {
			return
		}
	}
}

// keepInlines is keepInline for the operations from at on. The error is that of memory that is gone.
func (c *conn) keepInlines(at uint64) (err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	for ; at < c.posted; at++ {
		c.keepInline(&c.ring[at%queueDepth])
	}
	return nil
}

// keepInline copies the bytes of an Inline operation that has to wait. What is wrong with it is found when it is sent.
func (c *conn) keepInline(p *pending) {
	if p.copied || p.op.Flags&fabric.Inline == 0 || p.op.Kind == fabric.Write8 || rules.Check(&p.op, maxInline, maxSend) != nil {
		return
	}
	if r, err := c.ep.local(p.op.Local, p.op.Len); err == nil {
		defer r.release()
		copy(p.inline[:], unsafe.Slice((*byte)(r.at(p.op.Local.Off)), p.op.Len))
		p.copied = true
	}
}

// Poll implements [fabric.Conn].
func (c *conn) Poll(dst []fabric.Completion) int {
	over := c.gone.Load() // before what the goroutines left behind
	c.overhear()
	if c.encoded < c.posted {
		c.pump()
	}
	n := c.collect(dst, over)
	return n + c.collectReceives(dst[n:], over)
}

// collect moves completions of all but Recvs into dst.
func (c *conn) collect(dst []fabric.Completion, over bool) (n int) {
	acked, refused := c.acked.Load(), c.fault.Load()
	for n < len(dst) && c.reported < c.posted {
		p := &c.ring[c.reported%queueDepth]
		done := fabric.Completion{ID: p.op.ID, Kind: p.op.Kind}
		switch {
		case c.err != nil && !over:
			return n // an answer might still land in its memory
		case c.err != nil:
			done.Err = c.err
		case c.reported < acked && p.err == nil:
			if done.Value = p.value; p.op.Kind != fabric.CompareSwap && p.op.Kind != fabric.FetchAdd {
				done.Value = 0
			}
		case c.reported < acked:
			done.Err = p.err
			c.fail()
		case refused != nil && c.reported >= refused.seq:
			done.Err = refused.err
			c.fail()
		case over:
			done.Err = c.lost()
			c.fail()
		default:
			return n
		}
		c.reported++
		if done.Err != nil || p.op.Flags&fabric.Signaled != 0 {
			dst[n] = done
			n++
		}
	}
	return n
}
