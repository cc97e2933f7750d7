package shard

import "math"

// WAIT is answered from what members really hold: the connection's last write counts at a member when a durable flush
// behind it has completed there, or the member has reported it.

const cmdWait = "wait"

// waitDeadline is when a backup gives up a WAIT that it forwards: P answers when the command's own timeout has passed.
func (e *Engine) waitDeadline(r *Request) int64 {
	mark := len(r.W.Buf)
	r.Cmd.Run(r.prepare(nil, e.cfg.Server))
	r.W.Buf = r.W.Buf[:mark]
	if t := r.ctx.Wait.Timeout; r.ctx.Wait.Asked && t > 0 && t < 1<<40 {
		return e.now + t*1e6 + int64(e.cfg.CommandTimeout)
	}
	return math.MaxInt64
}

// wait begins a WAIT at P.
func (e *Engine) wait(r *Request) {
	r.Cmd.Run(r.prepare(nil, e.cfg.Server))
	w := r.ctx.Wait
	if !w.Asked { // its arguments are wrong, and the reply says so
		r.complete()
		return
	}
	r.free()
	r.gate = r.Client.LastWrite
	switch {
	case w.Timeout > 0 && w.Timeout < 1<<40:
		r.deadline = e.now + w.Timeout*1e6
	default:
		r.deadline = 0 // for ever, as in Redis
	}
	e.waits = append(e.waits, r)
	if e.holders(r.gate) < int(w.Replicas) {
		e.asked = true
	}
}

// holders counts the backups known to hold everything up to seq durably.
func (e *Engine) holders(seq uint64) int {
	n := 0
	if e.view == nil {
		return 0
	}
	for i, m := range e.view.Members {
		if m.ID != e.cfg.Self && e.core.Held(i) >= seq {
			n++
		}
	}
	return n
}

func (e *Engine) stepWaits() bool {
	kept := e.waits[:0]
	for _, r := range e.waits {
		n := e.holders(r.gate)
		if n >= int(r.ctx.Wait.Replicas) || r.deadline != 0 && r.deadline <= e.now {
			r.W.Int(int64(n))
			r.complete()
		} else {
			kept = append(kept, r)
		}
	}
	progress := len(kept) != len(e.waits)
	e.waits = kept
	return progress
}

func (e *Engine) cancelWait(r *Request) bool {
	for i, w := range e.waits {
		if w == r {
			e.waits = append(e.waits[:i], e.waits[i+1:]...)
			r.W.Int(int64(e.holders(r.gate)))
			r.complete()
			return true
		}
	}
	return false
}

// cancelForward gives up a WAIT that waits at P for this backup, and tells P.
func (e *Engine) cancelForward(r *Request) {
	for _, f := range e.relay.waits {
		if e.relay.waiting[f.id] == r {
			delete(e.relay.waiting, f.id)
			e.send(0, msgCancel, f.id)
			r.complete()
			return
		}
	}
}

// cancelled is a backup's word that nobody waits for its WAIT any more.
func (e *Engine) cancelled(from int, id uint64) {
	for _, w := range e.waits {
		if o := &w.from; o.e == e && o.member == from && o.made == e.links[from].made && o.id == id {
			e.cancelWait(w)
			return
		}
	}
}
