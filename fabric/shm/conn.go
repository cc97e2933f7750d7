package shm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/fabric/internal/words"
	"whale/pmem"
)

const (
	queueDepth = 1024
	recvDepth  = 1024
	maxInline  = 64
)

// conn is one end of a connection. Its owner's goroutine runs Post and Poll; watch.go and Endpoint.Close speak to it
// through broken, closed and inside only.
type conn struct {
	ep *Endpoint

	// Of this end, in this endpoint's files. The peer is inside line, and puts into in.
	line  *line
	index int
	gen   uint64
	in    inbox

	// Of the other end, in the peer's files.
	peer    peer
	busy    uint64              // value of peer.line.busy: this process alone writes it
	remotes [keyEntries]*remote // by the index in their key
	files   map[string]*pmem.File
	moved   uint64      // bytes in this period
	through pmem.Memory // written through or non-temporally, and not fenced since: see persist.go

	queue    queue // operations that wait behind a Send that found no room
	receives receives
	done     completions
	current  fabric.Op // Kind and ID of the operation being executed, Kind 0: none; a fault is its error
	draining bool      // and it is the front of queue
	ringing  bool      // the peer is to be rung at the end of this call
	settled  bool      // the period has to end with a full fence: see leave
	err      error     // what every further completion says; nil while all is well
	midCopy  func()    // tests stop here; nil otherwise

	sock   *net.UnixConn
	pidfd  *os.File
	who    process                // the peer's
	broken atomic.Pointer[string] // why the connection is lost; set once
	closed atomic.Bool            // no mapping may be touched any more by a call that begins
	inside atomic.Uint64          // odd while Post or Poll may touch a mapping or registered memory; their goroutine stores it
	// fenceless: see begin
	fenceless bool
	close     sync.Once
	closeErr  error
}

// peer is what is mapped of the other endpoint, whose folder is dir.
type peer struct {
	dir     string
	file    *pmem.File
	control *control
	line    *line // this end's way in
	gen     uint64
	out     inbox
	bell    ringer
}

var _ fabric.Conn = (*conn)(nil)

// Caps implements [fabric.Conn].
func (c *conn) Caps() fabric.Caps {
	return fabric.Caps{
		Provider:    "shm",
		QueueDepth:  queueDepth,
		RecvDepth:   recvDepth,
		Inline:      maxInline,
		MaxSend:     maxSend,
		Atomics:     true,
		NativeFlush: true, // the initiator's own CPU stores and flushes
		Domain:      pmem.FileShared,
		NonTemporal: true, // the initiator's own CPU fences between them
		Immediate:   true,
	}
}

// Post implements [fabric.Conn]. What can be executed is executed before it returns.
func (c *conn) Post(ops []fabric.Op) int {
	if len(ops) == 0 {
		return 0
	}
	return c.advance(ops)
}

// Poll implements [fabric.Conn].
func (c *conn) Poll(dst []fabric.Completion) int {
	if c.queue.n > 0 || c.receives.n > 0 || c.broken.Load() != nil {
		c.advance(nil)
	}
	return c.done.take(dst)
}

// advance executes what waits, then ops, takes in messages, and returns how many of ops it took.
func (c *conn) advance(ops []fabric.Op) (taken int) {
	c.begin() // Endpoint.Close and Revoke see this, or closed and the keys are seen here
	if c.err == nil {
		if err := c.run(ops, &taken); err != nil {
			c.fault(err)
		}
	}
	c.end()
	if c.err == nil {
		return taken
	}
	c.flush()
	for taken < len(ops) && c.admits(&ops[taken]) {
		c.complete(&ops[taken], 0, c.err)
		taken++
	}
	return taken
}

// run does the work of advance while the connection is well. *taken counts an operation before it is executed: an error
// or a fault has ended the one that current names.
func (c *conn) run(ops []fabric.Op, taken *int) (err error) {
	if c.closed.Load() {
		c.err = fabric.ErrFlushed
		return nil
	}
	defer pmem.Catch(pmem.Arm(), &err)
	c.ringing = false
	if c.receives.n > 0 {
		c.receive()
	}
	if why := c.broken.Load(); why != nil && c.err == nil {
		c.err = fmt.Errorf("%w: %s", fabric.ErrBroken, *why)
	}
	if c.err == nil && (c.queue.n > 0 || len(ops) > 0) {
		c.enter()
		if c.queue.n > 0 {
			c.drain()
		}
		for *taken < len(ops) && c.err == nil && c.admits(&ops[*taken]) {
			op := &ops[*taken]
			*taken++
			c.start(op)
		}
		c.current.Kind = 0
		c.leave()
	}
	if c.ringing {
		c.peer.bell.ring()
	}
	return nil
}

// enter begins a period; see the package's comment. The line may be somebody else's by now, if the peer closed it
// while this process was looking elsewhere: then busy has gone on, and is not touched.
func (c *conn) enter() {
	c.moved, c.settled = 0, false
	if !c.peer.line.busy.CompareAndSwap(c.busy, c.busy+1) { // a full fence
		c.lostLine()
		return
	}
	c.busy++
	if c.peer.line.gen.Load() != c.peer.gen {
		c.lostLine()
	}
}

// leave ends the period, if one was begun. Whoever sees that sees what was stored in it. When something has completed, or the
// peer is rung, it must also be seen before this thread looks at anything: a full fence. A period without, of writes that
// report nothing, ends without; then their flushes are waited for by the next fence, the caller's own for one.
func (c *conn) leave() {
	if !odd(c.busy) {
		return
	}
	c.busy++
	if c.settled {
		c.peer.line.busy.Store(c.busy)
	} else {
		words.StoreRelease(&c.peer.line.busy, c.busy)
	}
}

// lostLine: the peer has closed its end, or started anew.
func (c *conn) lostLine() {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s closed the connection", fabric.ErrBroken, c.peer.dir)
	}
}

// breathe ends the period and begins another, so that a withdrawal of a key never waits for more than a bounded copy.
// The caller checks its keys again.
func (c *conn) breathe() {
	c.leave()
	c.inside.Add(2) // odd before and after: another period for whoever watches
	c.enter()
}

// admits says whether the queue that op belongs to has room: what was posted and not polled counts.
func (c *conn) admits(op *fabric.Op) bool {
	if op.Kind == fabric.Recv {
		return c.receives.n+c.done.receives < recvDepth
	}
	return c.queue.n+c.done.others < queueDepth
}

// start executes op, or queues it behind what waits.
func (c *conn) start(op *fabric.Op) {
	switch {
	case op.Kind == fabric.Recv:
		c.postReceive(op)
	case c.queue.n > 0 || !c.execute(op, nil):
		c.queue.push(op, c.inlined(op))
	}
}

// drain executes what waits in the queue, as far as it goes.
func (c *conn) drain() {
	c.draining = true
	for c.queue.n > 0 && c.err == nil {
		w := c.queue.front()
		if !c.execute(&w.op, w.inlined()) {
			break
		}
		c.queue.pop()
	}
	c.draining = false
}

// fail ends the connection with an error of op, the first one.
func (c *conn) fail(op *fabric.Op, err error) {
	c.complete(op, 0, err)
	if c.err == nil {
		c.err = fabric.ErrFlushed
	}
	c.sock.Close() // the peer is told by the end of the stream
}

// fault ends the operation that touched a page which is gone.
func (c *conn) fault(err error) {
	err = c.blame(err)
	pmem.Guard(c.leave) // should the line be gone too, nobody can look at it
	if c.current.Kind == 0 {
		c.err = err
		c.sock.Close()
		return
	}
	c.fail(&c.current, err)
	if c.draining {
		c.queue.pop()
	}
	c.draining, c.current.Kind = false, 0
}

// blame says whose memory it was.
func (c *conn) blame(err error) error {
	var f *pmem.Fault
	if !errors.As(err, &f) {
		return err
	}
	switch {
	case f.Name == c.peer.file.Name(), f.Name == c.peer.out.file.Name(), f.Name == c.in.file.Name():
		return fmt.Errorf("%w: %w", fabric.ErrBroken, err)
	case c.files[f.Name] != nil:
		return fmt.Errorf("%w: %w", fabric.ErrAccess, err)
	}
	return fmt.Errorf("%w: %w", fabric.ErrLocal, err)
}

// flush completes all that waits with c.err.
func (c *conn) flush() {
	for c.queue.n > 0 {
		c.complete(&c.queue.front().op, 0, c.err)
		c.queue.pop()
	}
	for c.receives.n > 0 {
		r := c.receives.pop()
		c.complete(&r, 0, c.err)
	}
}

func (c *conn) complete(op *fabric.Op, value uint64, err error) {
	c.settled = true
	c.done.push(fabric.Completion{ID: op.ID, Value: value, Kind: op.Kind, Err: err})
}

// Close implements [fabric.Conn]. When it returns, the peer's operations on this connection have ended too; if that did
// not come true within the endpoint's RevokeLimit, because the peer is stopped inside one, the error is ErrInFlight.
func (c *conn) Close() error {
	c.close.Do(func() { c.closeErr = c.shutdown() })
	return c.closeErr
}

func (c *conn) shutdown() (err error) {
	e := c.ep
	defer func() {
		if !odd(c.inside.Load()) {
			c.unmap()
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.conns, c)
	}()
	defer pmem.Catch(pmem.Arm(), &err)
	c.closed.Store(true)
	barrier() // no call that begins now touches a mapping
	c.sock.Close()
	if c.pidfd != nil {
		c.pidfd.Close()
	}
	closeLine(c.line)
	inside := c.line.inside(nil)
	if seen := c.inside.Load(); odd(seen) { // Endpoint.Close, from another goroutine
		inside = append(inside, period{busy: &c.inside, seen: seen})
	}
	return e.await(inside)
}

// unmap gives back what was mapped of the peer. Nobody is inside, and nobody will be.
func (c *conn) unmap() {
	for _, f := range c.files {
		f.Close()
	}
	if c.peer.file != nil {
		c.peer.file.Close()
	}
	if c.peer.out.file != nil {
		c.peer.out.file.Close()
	}
	if c.peer.bell.fd >= 0 {
		unix.Close(c.peer.bell.fd)
	}
}
