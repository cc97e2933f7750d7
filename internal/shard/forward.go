package shard

import (
	"slices"
	"time"

	"whale/internal/command"
	"whale/internal/resp"
)

// relay is a backup's account of the requests that it forwarded to P.
type relay struct {
	next    uint64
	waiting map[uint64]*Request
	order   queue[forwarded] // for the deadlines; what has been answered is skipped
	waits   []forwarded      // WAITs, which have deadlines of their own
	pool    []*Request       // (P) requests that came from backups, for reuse
	made    int              // of them, ever
}

type forwarded struct {
	id       uint64
	deadline int64
}

// origin is the way back of a request that came from a backup.
type origin struct {
	e      *Engine
	member int
	made   uint64 // the connection it came on: see link.made
	id     uint64
	args   []byte // what Args point into
}

// maxRelay bounds the bytes that wait for the way to P.
const maxRelay = 16 << 20

// forward sends queued requests to another member, as long as the way is not congested.
func (e *Engine) forward(q *queue[*Request], to int) bool {
	l := &e.links[to]
	n := 0
	for q.len() > 0 && l.conn != nil && l.inView && e.serving.Load() != 0 && l.channel.queued() < maxRelay {
		r := q.pop()
		n++
		size := 0
		for _, a := range r.Args {
			size += len(a) + 4
		}
		size += multiSize(r.Multi)
		if size > maxMessage-64 {
			r.fail(errForward)
			continue
		}
		e.counts.Forwarded++
		e.relay.next++
		id := e.relay.next
		c := &l.channel
		at := c.begin(msgRequest)
		c.out = le.AppendUint64(c.out, id)
		c.out = le.AppendUint32(c.out, uint32(max(r.deadline-e.now, int64(time.Millisecond))/int64(time.Millisecond)))
		c.out = le.AppendUint64(c.out, r.Client.LastWrite)
		c.out = append(c.out, byte(r.W.Proto))
		c.out = le.AppendUint32(c.out, uint32(len(r.Args)))
		for _, a := range r.Args {
			c.out = le.AppendUint32(c.out, uint32(len(a)))
			c.out = append(c.out, a...)
		}
		c.out = appendMulti(c.out, r.Multi)
		c.end(at)
		r.free()
		r.to = to
		e.relay.waiting[id] = r
		if f := (forwarded{id: id, deadline: r.deadline}); r.Cmd.Name == cmdWait {
			e.relay.waits = append(e.relay.waits, f)
		} else {
			e.relay.order.push(f)
		}
	}
	return n > 0
}

// forwardedReply completes a request with P's answer.
func (e *Engine) forwardedReply(from int, id, seq uint64, reply []byte) {
	r, ok := e.relay.waiting[id]
	if !ok || r.to != from {
		return // it was given up meanwhile
	}
	if e.bad != FaultKeepAnswered {
		delete(e.relay.waiting, id)
	}
	if seq != 0 {
		r.Client.LastWrite = seq
	}
	r.W.Buf = append(r.W.Buf, reply...)
	r.complete()
}

// forwardsLost fails what was forwarded over a connection that broke: P may or may not have executed it.
func (e *Engine) forwardsLost(member int) {
	var lost []uint64
	for id, r := range e.relay.waiting {
		if r.to == member {
			lost = append(lost, id)
		}
	}
	slices.Sort(lost) // in the order in which they were sent
	for _, id := range lost {
		if r := e.relay.waiting[id]; e.bad == FaultSendAgain && len(r.Args) > 0 {
			delete(e.relay.waiting, id)
			e.queue.push(r)
			continue
		}
		e.giveUp(id, errLost)
	}
}

func (e *Engine) expireForwards() {
	o := &e.relay.order
	for o.len() > 0 {
		f := *o.at(0)
		if _, waits := e.relay.waiting[f.id]; waits && f.deadline > e.now {
			return
		}
		o.pop()
		e.giveUp(f.id, errUnknown)
	}
	kept := e.relay.waits[:0]
	for _, f := range e.relay.waits {
		if f.deadline > e.now {
			if _, waits := e.relay.waiting[f.id]; waits {
				kept = append(kept, f)
			}
			continue
		}
		e.giveUp(f.id, errReadLate)
	}
	e.relay.waits = kept
}

// giveUp ends the wait for an answer, if it still goes on. text is for what may have changed something.
func (e *Engine) giveUp(id uint64, text string) {
	if r, ok := e.relay.waiting[id]; ok {
		delete(e.relay.waiting, id)
		if r.Cmd.Place == command.Read {
			text = errReadLate
		}
		r.fail(text)
	}
}

func (r *relay) deadline() int64 {
	if r.order.len() == 0 {
		return 0
	}
	return r.order.at(0).deadline
}

// forwardedRequest queues a backup's request at P. False: it is malformed.
func (e *Engine) forwardedRequest(from int, m *reader) bool {
	r := e.relay.take(e)
	o := &r.from
	o.member, o.made = from, e.links[from].made
	o.id = m.u64()
	left := m.u32()
	r.Client.LastWrite = m.u64()
	r.W.Proto = int(m.u8())
	n := m.u32()
	body := m.b
	o.args = append(o.args[:0], body...)
	in := reader{b: o.args, bad: m.bad}
	r.Args = r.Args[:0]
	for ; n > 0 && !in.bad; n-- {
		r.Args = append(r.Args, in.bytes(uint64(in.u32())))
	}
	r.Cmd = checked(r.Args)
	r.Multi = nil
	if r.Cmd != nil && r.Cmd.Name == cmdExec {
		r.Multi = in.multi()
	}
	if !in.end() || r.Cmd == nil || r.Cmd.Place == command.Here && r.Cmd.Name != cmdWait || r.W.Proto != 2 && r.W.Proto != 3 {
		return false
	}
	if !e.primary() && (r.Cmd.Place != command.Read || e.elsewhere.Load()) {
		return false // only reads, and only where they belong
	}
	r.Client.Proto = r.W.Proto
	r.Behind = e.primary() // a read comes here because a write is before it, or because P's clock is to decide
	e.Submit(r)
	// P gives up a little before the backup does, so that its answer, which knows more, comes first.
	budget := int64(left) * int64(time.Millisecond)
	r.deadline = min(r.deadline, e.now+budget-budget/10)
	return true
}

// checked is the command that the arguments are; nil: none that the backup should have let pass.
func checked(args [][]byte) *command.Command {
	if len(args) == 0 {
		return nil
	}
	cmd := command.Lookup(args[0])
	if command.Check(cmd, args) != "" {
		return nil
	}
	return cmd.Resolve(args)
}

func (r *relay) take(e *Engine) *Request {
	if n := len(r.pool); n > 0 {
		q := r.pool[n-1]
		r.pool = r.pool[:n-1]
		return q
	}
	r.made++
	q := &Request{Client: &command.Client{}, from: origin{e: e}}
	q.Owner = &q.from
	q.W = resp.Writer{Proto: 2}
	return q
}

// Executed implements Owner.
func (o *origin) Executed(*Request) {}

// Completed sends the reply back the way the request came; if that connection is gone, nobody waits for it.
func (o *origin) Completed(r *Request) {
	e := o.e
	if l := &e.links[o.member]; l.conn != nil && l.made == o.made {
		c := &l.channel
		at := c.begin(msgReply)
		c.out = le.AppendUint64(c.out, o.id)
		c.out = le.AppendUint64(c.out, r.seq)
		c.out = append(c.out, r.W.Buf...)
		c.end(at)
	}
	r.W.Buf = r.W.Buf[:0]
	if cap(r.W.Buf) > frameSize {
		r.W.Buf = nil
	}
	if cap(o.args) > frameSize {
		o.args = nil
	}
	e.relay.pool = append(e.relay.pool, r)
}
