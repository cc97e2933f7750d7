package node

import (
	"fmt"

	"golang.org/x/sys/unix"

	"whale/internal/command"
	"whale/internal/poller"
	"whale/internal/resp"
	"whale/internal/tlsconn"
)

// Bounds of what one connection makes the node hold.
const (
	maxUnanswered = 1024      // requests parsed and not yet answered; beyond it nothing is parsed
	pauseOutput   = 1 << 20   // bytes of replies waiting to be sent; beyond it nothing is parsed
	maxOutput     = 256 << 20 // beyond it the client is disconnected, as Redis does by client-output-buffer-limit
	maxRead       = 256 << 10 // bytes read in one go, so that one client does not starve the others
)

// conn is one client's connection. Its reactor's goroutine owns it.
//
// Requests are answered in the order in which they came. Those that are not answered yet stand in a queue, first to last;
// while the queue is empty, a command that can be answered at once writes its reply straight to the output.
//
// The arguments of a request are a view of the read buffer. While a request that the engine has not executed yet points
// there (held > 0), the buffer is neither moved nor overwritten: it is only filled up, and then nothing is read until
// the engine has caught up. That is the backpressure.
type conn struct {
	reactor *reactor
	fd      int
	secure  *tlsconn.Conn // nil: no TLS
	client  *command.Client
	latest  *command.Command // the last of this round; nil: none came
	watched poller.Interest  // what the poller waits for

	// Input: in[r:w] is received and not yet parsed.
	in     []byte // nil: nothing is in it
	r, w   int
	chunk  int // how much to read in one go
	parser resp.Parser
	held   int

	first, last *request
	queued      int
	ready       int      // bytes of complete replies behind the first incomplete one
	barrier     *request // WAIT: sent off when everything before it is answered; nothing behind it is parsed until it is

	out   resp.Writer
	sent  int // of out.Buf
	usual int // bytes of the last batch of replies: the next one will need as much

	rearm   bool // there may be more to read, of which the poller does not tell by itself
	touched bool // is in reactor.touched
	eof     bool // the client sends no more: answer what it asked, then close
	closing bool // nothing more is parsed: send what is there, then close
	dead    bool // closed; what still is in the engine's hands is thrown away when it comes back
	buried  bool // nothing is in the engine's hands any more
}

// wantsRead: there is room for input, or room can be made.
func (c *conn) wantsRead() bool {
	switch {
	case c.eof || c.closing || c.dead:
		return false
	case c.w < len(c.in) || c.in == nil:
		return true
	case c.held > 0:
		return false
	}
	// Full. What is consumed makes room; a buffer is grown only for a command that is not whole, never to queue whole ones.
	return c.r > 0 || !c.paused()
}

// interest is what the poller is to wait for. It reports by edges, which costs less; but with TLS what was read is not what
// the socket had, and it reports by level.
func (c *conn) interest() (want poller.Interest) {
	if c.secure == nil {
		want = poller.Edge
	}
	if c.wantsRead() {
		want |= poller.Readable
	}
	if c.unsent() > 0 {
		want |= poller.Writable
	}
	return want
}

// paused: whole commands may be waiting in the buffer, and are not to be parsed now.
func (c *conn) paused() bool {
	return c.barrier != nil || c.queued >= maxUnanswered || c.unsent()+c.ready >= pauseOutput
}

func (c *conn) unsent() int {
	n := len(c.out.Buf) - c.sent
	if c.secure != nil {
		n += c.secure.Unsent()
	}
	return n
}

// read and write are those of the poller, on the socket or on the TLS over it.
func (c *conn) read(b []byte) (int, error) {
	if c.secure != nil {
		return c.secure.Read(b, c.reactor.intake())
	}
	return poller.Read(c.fd, b)
}

func (c *conn) write(b []byte) (int, error) {
	if c.secure != nil {
		return c.secure.Write(b)
	}
	return poller.Write(c.fd, b)
}

// fill reads once. It returns false when the connection is broken.
func (c *conn) fill() bool {
	if !c.wantsRead() {
		// Not waited for, and yet an event: the connection was reset, or closed in both directions.
		return c.watched&poller.Readable != 0
	}
	c.makeRoom()
	n, err := c.read(c.in[c.w:])
	switch {
	case err == unix.EAGAIN:
		return true
	case err != nil:
		return false
	case n == 0:
		c.eof = true
		return true
	}
	if c.w += n; c.w == len(c.in) {
		c.rearm = true
	}
	c.reactor.counts.in += uint64(n)
	if c.w == len(c.in) && c.chunk < maxRead {
		c.chunk *= 2
	} else if n < c.chunk/4 && c.chunk > minBuffer {
		c.chunk /= 2
	}
	return true
}

// makeRoom leaves at least one free byte at the end of the buffer. Needs wantsRead.
func (c *conn) makeRoom() {
	if c.in == nil {
		c.in = c.reactor.buffers.get(c.chunk)
	}
	if c.held > 0 {
		return
	}
	partial := c.w - c.r
	need := max(c.parser.Need(), partial+1)
	size := len(c.in)
	if need > size && partial >= size/2 {
		// The parser trusts the announced length of an argument; memory follows only as the bytes really come.
		size = min(need, 4*size)
	}
	switch {
	case size > len(c.in):
		in := c.reactor.buffers.get(size)
		c.w = copy(in, c.in[c.r:c.w])
		c.reactor.buffers.put(c.in)
		c.in, c.r = in, 0
	case c.w == len(c.in) || c.r > 0 && c.r+need > len(c.in):
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
}

// giveBack returns the read buffer when nothing is in it and nobody points into it.
func (c *conn) giveBack() {
	if c.held == 0 && c.r == c.w && c.in != nil {
		c.reactor.buffers.put(c.in)
		c.in, c.r, c.w = nil, 0, 0
	}
}

// parse takes commands from the buffer and dispatches them until none is whole. It returns true when it stopped before,
// because the connection is paused.
func (c *conn) parse() (stopped bool) {
	if !c.client.Authed {
		c.parser.Limits = c.reactor.strangersLimits()
	}
	for c.r < c.w && !c.closing && !c.reactor.stop {
		if c.paused() {
			return true
		}
		q := c.reactor.stock.get(c)
		args, n, err := c.parser.NextInto(c.in[c.r:c.w], q.argv[:0])
		q.argv = args
		if err != nil {
			c.protocolError(q, err)
			return false
		}
		c.r += n
		if len(args) > 0 {
			q.Args = args
			c.reactor.dispatch(c, q)
			continue
		}
		c.reactor.stock.put(q)
		if n == 0 {
			return false
		}
	}
	return false
}

func (c *conn) protocolError(q *request, err error) {
	c.reactor.log.Info("closing a client's connection", "client", c.client.Addr, "error", err)
	c.fail(q, "ERR "+err.Error())
	c.closing = true
}

// fail answers q with an error at once.
func (c *conn) fail(q *request, text string) {
	w, queued := c.reply(q)
	w.Error(text)
	c.replied(q, queued)
}

// reply starts the reply to q, which is there at once: straight in the output if nothing is before it, else in the
// request, in its place in the queue. [conn.replied] ends it.
func (c *conn) reply(q *request) (w *resp.Writer, queued bool) {
	if c.first == nil && !q.mute {
		return c.writer(), false
	}
	c.enqueue(q)
	return &q.W, true
}

func (c *conn) replied(q *request, queued bool) {
	if queued {
		c.complete(q)
	} else {
		c.reactor.stock.put(q)
	}
}

// writer is the output. Needs an empty queue.
func (c *conn) writer() *resp.Writer {
	if c.out.Buf == nil {
		c.out.Buf = c.reactor.buffers.get(c.usual)[:0]
	}
	c.out.Proto = c.client.Proto
	return &c.out
}

// enqueue puts q at the queue's end.
func (c *conn) enqueue(q *request) {
	q.W.Proto = c.client.Proto
	if c.last == nil {
		c.first = q
	} else {
		c.last.next = q
	}
	c.last = q
	c.queued++
}

// hold notes that q's arguments are needed until [conn.release].
func (c *conn) hold(q *request) {
	q.held = true
	c.held++
}

// release ends hold. It may be called twice.
func (c *conn) release(q *request) {
	if !q.held {
		return
	}
	q.held = false
	if c.reactor.slowerThan >= 0 {
		q.memo = command.AppendMemo(q.memo[:0], q.Cmd, q.Args)
	}
	if c.held--; c.held == 0 {
		c.reactor.touch(c) // there may be room again
	}
}

// complete notes that q's reply is there.
func (c *conn) complete(q *request) {
	c.release(q)
	q.done = true
	if q.Cmd == waitCommand {
		c.unblock(q)
	}
	if q.Cmd != nil && q.Cmd.Place == command.Transact {
		c.finishMulti(q)
	}
	if q.mute {
		q.W.Buf = q.W.Buf[:0]
	}
	c.ready += len(q.W.Buf)
	c.reactor.touch(c)
}

// collect moves the replies at the queue's head to the output.
func (c *conn) collect() {
	for q := c.first; q != nil && q.done; q = c.first {
		c.ready -= len(q.W.Buf)
		if q.began != 0 {
			c.reactor.noteQueued(q)
		}
		if w := c.writer(); len(w.Buf) == 0 && len(q.W.Buf) > maxKeptReply {
			w.Buf, q.W.Buf = q.W.Buf, w.Buf // a large one is not copied
		} else {
			w.Buf = append(w.Buf, q.W.Buf...)
		}
		c.unlink(q)
	}
}

// unlink takes the first request out of the queue, for good.
func (c *conn) unlink(q *request) {
	if c.first = q.next; c.first == nil {
		c.last = nil
	}
	c.queued--
	if c.barrier == q {
		c.barrier = nil
	}
	c.reactor.stock.put(q)
}

// discard throws away the queue's head as far as the engine does not have it.
func (c *conn) discard() {
	for q := c.first; q != nil && (q.done || q == c.barrier && !q.sent); q = c.first {
		c.unlink(q)
	}
}

// flush sends what the socket takes. It returns false when the connection is broken.
func (c *conn) flush() bool {
	for c.sent < len(c.out.Buf) {
		n, err := c.write(c.out.Buf[c.sent:])
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			return false
		}
		c.sent += n
		c.reactor.counts.out += uint64(n)
	}
	if c.secure != nil {
		if err := c.secure.Flush(); err != nil && err != unix.EAGAIN {
			return false
		}
	}
	switch {
	case c.sent == len(c.out.Buf):
		if c.out.Buf != nil {
			c.usual = min(len(c.out.Buf), pauseOutput)
			c.reactor.buffers.put(c.out.Buf)
		}
		c.out.Buf, c.sent = nil, 0
	case c.sent > len(c.out.Buf)/2:
		c.out.Buf = c.out.Buf[:copy(c.out.Buf, c.out.Buf[c.sent:])]
		c.sent = 0
	}
	return true
}

// overdue says why the client must be disconnected, empty while it need not be.
func (c *conn) overdue() string {
	if n := c.unsent() + c.ready; n > c.reactor.maxOutput {
		return fmt.Sprintf("%d bytes of replies wait, at most %d are kept: the client does not read them", n, c.reactor.maxOutput)
	}
	return ""
}
