package shard

import (
	"whale/internal/command"
	"whale/internal/plog"
	"whale/internal/store"
)

// readView is the store as a reading command sees it. It remembers whether the answer can be given from here.
type readView struct {
	st    *store.Store
	exact bool     // S is fresh: resolve what is pending instead of calling it dirty (loop only)
	dirty bool     // some key could not be read
	need  plog.Rec // exact: the bytes that are missing; Seq 0: none
	buf   []byte   // the values read, one behind the other

	bad     Fault
	expired bool // dirty because a deadline has passed: P has to remove the key
}

const keptReadBuf = 1 << 20 // a larger buffer is given back

func (v *readView) begin(st *store.Store, exact bool, bad Fault) {
	v.st, v.exact, v.bad, v.dirty, v.expired, v.need = st, exact, bad, false, false, plog.Rec{}
	if cap(v.buf) > keptReadBuf {
		v.buf = nil
	}
	v.buf = v.buf[:0]
}

// Get implements command.Tx. The value is valid until the view begins anew: when the buffer grows, the values handed out
// keep the old one alive.
func (v *readView) Get(key []byte) ([]byte, bool) {
	value, _, ok := v.read(key)
	return value, ok
}

// Deadline implements command.Tx.
func (v *readView) Deadline(key []byte) (int64, bool) {
	_, at, ok := v.read(key)
	return at.Deadline, ok
}

func (v *readView) read(key []byte) (value []byte, at store.Version, ok bool) {
	if v.dirty {
		return nil, at, false
	}
	from := len(v.buf)
	var verdict store.Verdict
	if v.exact {
		v.buf, verdict, at, v.need = v.st.ReadAt(key, v.buf)
	} else {
		v.buf, verdict, at = v.st.Read(key, v.buf)
	}
	switch verdict {
	case store.Hit:
		return v.buf[from:len(v.buf):len(v.buf)], at, true
	case store.Miss:
		return nil, at, false
	case store.Expired:
		if v.bad == FaultOwnClock {
			return nil, at, false
		}
	}
	v.dirty, v.expired = true, verdict == store.Expired
	return nil, at, false
}

// The writing half is never called: commands of place Read do not write, and no other command gets a readView.

const (
	wroteOnRead = "shard: a reading command wrote"
	atPrimary   = "shard: all keys are known at the primary only"
)

func (v *readView) Set(_, _ []byte)                  { panic(wroteOnRead) }
func (v *readView) SetUntil(_, _ []byte, _ int64)    { panic(wroteOnRead) }
func (v *readView) Del(_ []byte) bool                { panic(wroteOnRead) }
func (v *readView) FlushAll()                        { panic(wroteOnRead) }
func (v *readView) Len() int                         { panic(atPrimary) }
func (v *readView) Stamp() uint64                    { panic(atPrimary) }
func (v *readView) Scan(uint64, func([]byte)) uint64 { panic(atPrimary) }

// TryRun answers a read of one key from this member's memory, without a message. Any goroutine may call it, each with
// requests of its own. False: nothing was written to r.W, and the request has to be submitted.
//
// The lease is checked with the value in hand: a member that was fenced meanwhile does not answer.
func (e *Engine) TryRun(r *Request) bool {
	if r.Cmd.Place != command.Read || keys(r.Cmd, len(r.Args)) != 1 {
		return false
	}
	epoch := e.serving.Load()
	if epoch == 0 || e.elsewhere.Load() {
		return false
	}
	mark := len(r.W.Buf)
	if e.bad == FaultReadUnstable && e.primary() {
		r.Cmd.Run(r.prepare(e.st.Begin(), e.cfg.Server))
		return true
	}
	r.view.begin(e.st, false, e.bad)
	r.Cmd.Run(r.prepare(&r.view, e.cfg.Server))
	// First the lease, then its epoch: one that came with a later view would not do.
	if r.view.dirty || !e.leased() && (e.primary() || e.bad != FaultNoLeaseAside) || e.serving.Load() != epoch {
		r.W.Buf = r.W.Buf[:mark]
		return false
	}
	return true
}

// dirtyReads are a backup's reads that need to know S as it is now.
type dirtyReads struct {
	waiting    []*Request // no READ of S was posted since they came
	asked      []*Request // one is on its way, posted after they came
	refreshing bool
	fetch      []*Request // S is known; bytes are on their way
	need       []plog.Rec // to be asked for at the core's next step
	spare      []*Request
}

func (d *dirtyReads) len() int { return len(d.waiting) + len(d.asked) + len(d.fetch) }

// restart makes all of them ask again: the view that they asked in is gone.
func (d *dirtyReads) restart() {
	d.waiting = append(d.waiting, d.asked...)
	d.waiting = append(d.waiting, d.fetch...)
	d.asked, d.fetch, d.need, d.refreshing = d.asked[:0], d.fetch[:0], d.need[:0], false
}

// refresh tells whether a READ of S is to be posted now. A read never joins one that was posted before it began.
func (d *dirtyReads) refresh() bool {
	if d.refreshing || len(d.waiting) == 0 {
		return false
	}
	d.waiting, d.asked = d.asked[:0], d.waiting
	d.refreshing = true
	return true
}

// resolveAsked answers the reads that waited for S. It is fresh now and the ring was drained after it was read: every slot
// up to it is pending or installed here, so that the newest version <= S is known exactly; only its bytes may be missing.
func (e *Engine) resolveAsked() {
	d := &e.dirty
	d.refreshing = false
	asked := d.asked
	if e.bad == FaultJoinRefresh {
		asked, d.waiting = append(asked, d.waiting...), nil
	}
	d.asked = d.spare[:0]
	for _, r := range asked {
		e.resolve(r)
	}
	d.spare = asked[:0]
}

func (e *Engine) resolveFetched() {
	d := &e.dirty
	fetch := d.fetch
	d.fetch = d.spare[:0]
	for _, r := range fetch {
		e.resolve(r)
	}
	d.spare = fetch[:0]
}

func (e *Engine) resolve(r *Request) {
	mark := len(r.W.Buf)
	r.view.begin(e.st, true, e.bad)
	r.Cmd.Run(r.prepare(&r.view, e.cfg.Server))
	switch {
	case !r.view.dirty && (e.leased() || e.bad == FaultNoLease):
		r.complete()
		return
	case !r.view.dirty:
		e.dirty.waiting = append(e.dirty.waiting, r)
	case r.view.expired && e.queue.len() >= e.cfg.QueueLimit:
		r.W.Buf = r.W.Buf[:mark]
		r.fail(errBusy)
		return
	case r.view.expired:
		e.queue.push(r) // for P, whose clock decides
	case r.view.need.Seq != 0:
		e.dirty.need = append(e.dirty.need, r.view.need)
		e.dirty.fetch = append(e.dirty.fetch, r)
	default:
		e.dirty.waiting = append(e.dirty.waiting, r)
	}
	r.W.Buf = r.W.Buf[:mark]
}

func (d *dirtyReads) deadline() int64 {
	var first int64
	for _, l := range [...][]*Request{d.waiting, d.asked, d.fetch} {
		if len(l) > 0 && (first == 0 || l[0].deadline < first) {
			first = l[0].deadline
		}
	}
	return first
}

// expire fails the reads that took too long.
func (d *dirtyReads) expire(now int64) {
	for _, l := range [...]*[]*Request{&d.waiting, &d.asked, &d.fetch} {
		kept := (*l)[:0]
		for _, r := range *l {
			if r.deadline <= now {
				r.fail(errReadLate)
			} else {
				kept = append(kept, r)
			}
		}
		*l = kept
	}
}
