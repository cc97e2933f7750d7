package shard

import (
	"fmt"

	"whale/fabric"
)

// link is this member's connection to another member: one-sided operations of the current view, and a channel of messages.
type link struct {
	member int
	conn   fabric.Conn // nil: not connected
	made   uint64      // how many connections there have been: a reply goes back over the one its request came on
	// inView: the current view was formed over this very connection. On another one the view's keys mean nothing, and an
	// operation under them would break it.
	inView  bool
	outbox  []fabric.Op // operations that the queue had no room for
	channel channel
	polled  []fabric.Completion
}

// Connected gives the engine a connection to another member; it replaces the one before, which is closed.
func (e *Engine) Connected(member int, c fabric.Conn) {
	if member < 0 || member >= len(e.links) || member == e.cfg.Self {
		c.Close()
		return
	}
	l := &e.links[member]
	lost := len(e.lost)
	e.drop(l)
	e.lost = e.lost[:lost] // it is replaced, not lost
	l.conn = c
	l.made++
	e.reports[member] = report{}
	l.channel.reset(c, e.bufKey, uint64(member)*channelBytes, e.cfg.Buffers)
	e.connectionLeases(member)
	e.event(fmt.Sprintf("connected to %s", e.name(member)))
	e.linksChanged(member)
}

// Lost returns the members whose connection broke since the last call.
func (e *Engine) Lost() []int {
	lost := e.lost
	e.lost = nil
	return lost
}

// drop ends a connection and everything that waited for an answer on it.
func (e *Engine) drop(l *link) {
	if l.conn == nil {
		return
	}
	l.conn.Close()
	l.conn = nil
	l.inView = false
	l.outbox = l.outbox[:0]
	e.lost = append(e.lost, l.member)
	e.reports[l.member] = report{}
	e.connectionLeases(l.member)
	e.forwardsLost(l.member)
	e.linksChanged(l.member)
}

func (e *Engine) broke(l *link, err error) {
	e.event(fmt.Sprintf("lost the connection to %s: %v", e.name(l.member), err))
	e.drop(l)
}

// post hands operations of the current view to a link, behind those that wait already.
func (e *Engine) post(l *link, ops []fabric.Op) {
	if l.conn == nil || !l.inView {
		return // the view is about to be replaced
	}
	e.counts.Operations += uint64(len(ops))
	if len(l.outbox) == 0 {
		ops = ops[l.conn.Post(ops):]
	}
	l.outbox = append(l.outbox, ops...)
}

// poll takes completions from all links: the core's go to its next input, the channel's are handled at once.
func (e *Engine) poll() bool {
	progress := false
	for i := range e.links {
		l := &e.links[i]
		if l.conn == nil {
			continue
		}
		if len(l.outbox) > 0 {
			n := l.conn.Post(l.outbox)
			l.outbox = l.outbox[:copy(l.outbox, l.outbox[n:])]
			progress = progress || n > 0
		}
		for l.conn != nil {
			n := l.conn.Poll(l.polled)
			for _, c := range l.polled[:n] {
				progress = true
				if err := e.completion(l, c); err != nil {
					e.broke(l, err)
					break
				}
			}
			if n < len(l.polled) {
				break
			}
		}
	}
	return progress
}

// listen takes what comes from others when the shard is not served any more, and does nothing with it: a completion that
// nobody polls would keep the doorbell ringing.
func (e *Engine) listen() {
	for i := range e.links {
		l := &e.links[i]
		for l.conn != nil {
			n := l.conn.Poll(l.polled)
			for _, c := range l.polled[:n] {
				if c.Err != nil {
					e.broke(l, c.Err)
					break
				}
			}
			if n < len(l.polled) {
				break
			}
		}
	}
}

func (e *Engine) completion(l *link, c fabric.Completion) error {
	if c.Err != nil {
		return c.Err
	}
	e.counts.completed(c.Kind)
	if c.ID&idChannel == 0 {
		if l.inView && e.view != nil {
			e.in.Done = append(e.in.Done, e.done(l.member, c))
		}
		return nil
	}
	return l.channel.completion(c, func(kind byte, body []byte) error { return e.message(l.member, kind, body) })
}

// pump sends what the channels have queued.
func (e *Engine) pump() bool {
	progress := false
	for i := range e.links {
		if l := &e.links[i]; l.conn != nil && len(l.outbox) == 0 {
			progress = l.channel.pump() || progress
		}
	}
	return progress
}
