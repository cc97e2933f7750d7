package timing

import (
	"whale/fabric"
	"whale/fabric/simfab"
)

// conn is one end of a connection: simfab's, and when its work requests get where.
//
// A doorbell rings, with one work request or several; each arrives at the other card, and takes effect there (is placed):
// these are events. A completion has no event: it is taken from simfab by the first Poll or Post that is not earlier.
type conn struct {
	ep     *endpoint
	inner  fabric.Conn
	remote *Node
	peer   *conn // nil until the other side has accepted
	state
	closed bool

	waiting  []*work // rung for, and not given to the card: a Fenced one, which waits for earlier Reads and atomics, and those behind
	reading  int     // Reads and atomics that were given to the card and have not been executed
	answered ps      // when the answer of the last one that was is here
	open     []*work // posted and not completed, in post order
	stalled  []*work // due to take effect, and held up: a message without a receive, and those behind

	pair    ps // when the queue pair's next message may enter the card
	out     ps // when the last message was ready to leave the card
	there   ps // when the last message reaches the remote card
	in      ps // when the last message was through the remote card
	visible ps // when all Writes that arrived are placed
	ordered ps // when everything that arrived has taken effect
	hold    ps // Fence: what arrives later is placed at this time at the earliest
	durable ps // when all that was written through or non-temporally is durable
}

// work is a work request under way.
type work struct {
	fabric.Op
	conn  *conn
	next  *work // under the same doorbell
	event simfab.Event
	due   ps // its completion; 0: not known yet
	ends  int
}

func (m *Model) wrap(e *endpoint, inner fabric.Conn, remote *Node) *conn {
	c := &conn{ep: e, inner: inner, remote: remote}
	m.conns[inner] = c
	e.conns++
	return c
}

func (c *conn) model() *Model { return c.ep.node.m }

// Caps implements fabric.Conn.
func (c *conn) Caps() fabric.Caps {
	caps := c.inner.Caps()
	caps.Provider, caps.Domain = "timing", c.model().domain()
	return caps
}

// Post implements fabric.Conn. One call is one doorbell.
func (c *conn) Post(ops []fabric.Op) int {
	m := c.model()
	t := m.begin()
	c.finish(t.clock)
	m.posted = m.posted[:0]
	n := c.inner.Post(ops)
	if n == 0 {
		return 0
	}
	t.clock += m.cost.post + ps(n-1)*m.cost.postBatched
	next, last := 0, (*work)(nil)
	for i := range ops[:n] {
		if ops[i].Kind == fabric.Recv {
			if c.peer != nil {
				c.peer.retry(t.clock)
			}
			continue
		}
		if next == len(m.posted) { // the connection is dead, and simfab has said so
			continue
		}
		w := m.newWork()
		w.Op, w.conn, w.event = ops[i], c, m.posted[next]
		c.open = append(c.open, w)
		if next++; last != nil {
			last.next = w
		} else {
			m.events.push(t.clock+m.cost.pcieWrite, rung, w)
		}
		last = w
	}
	return n
}

func (m *Model) newWork() *work {
	last := len(m.free) - 1
	if last < 0 {
		return new(work)
	}
	w := m.free[last]
	m.free = m.free[:last]
	return w
}

// end lets go of a work request that has completed and taken effect, or never will.
func (c *conn) end(w *work) {
	if w.ends++; w.ends == 2 {
		m := c.model()
		*w = work{}
		m.free = append(m.free, w)
	}
}

// finish completes what is due at t, in post order.
func (c *conn) finish(t ps) {
	n := 0
	for n < len(c.open) && c.open[n].due != 0 && c.open[n].due <= t {
		w := c.open[n]
		c.model().net.Complete(w.event) // an error: the connection died, and simfab has told its poster
		c.end(w)
		n++
	}
	if n > 0 {
		c.open = c.open[:copy(c.open, c.open[n:])]
	}
}

// nextDue is when the next completion that anybody could poll arrives, if that is known.
func (c *conn) nextDue() ps {
	at := ps(0)
	for _, w := range c.open {
		if w.due == 0 {
			break
		}
		at = max(at, w.due) // in post order
		if w.Flags&fabric.Signaled != 0 {
			return at
		}
	}
	return never
}

// Poll implements fabric.Conn.
func (c *conn) Poll(dst []fabric.Completion) int {
	m := c.model()
	t := m.enter()
	c.finish(t.clock)
	n := c.inner.Poll(dst)
	if n == 0 {
		t.idlePoll(c.ep.conns, c.nextDue())
		return 0
	}
	t.idle = 0
	t.clock += ps(n) * m.cost.poll
	for _, done := range dst[:n] {
		if done.Kind == fabric.Recv {
			t.clock += m.dice.stall(&m.cost)
		}
	}
	return n
}

// Close implements fabric.Conn.
func (c *conn) Close() error {
	m := c.model()
	m.begin()
	if !c.closed {
		c.closed = true
		c.ep.conns--
		c.ep.node.nic.forget(&c.state)
		delete(m.conns, c.inner)
	}
	return c.inner.Close()
}

// retry lets what was held up take effect, if it can now.
func (c *conn) retry(t ps) {
	for progress := true; progress && len(c.stalled) > 0; {
		progress = false
		for i, w := range c.stalled {
			if c.land(w, t) {
				c.stalled = append(c.stalled[:i], c.stalled[i+1:]...)
				progress = true
				break
			}
		}
	}
}
