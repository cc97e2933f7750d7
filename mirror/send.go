package mirror

import (
	"errors"
	"slices"

	"whale/fabric"
)

// What the strategies post. The bytes of a write come from the stage, not from the region: there a later epoch might change
// them before the network card has fetched them, and reach the mirror ahead of its turn. Only where there is no such later, because
// a write is over when Post returns, do they come from the region.

// writeFlags are what a strategy asks of its writes.
var writeFlags = [...]fabric.Flags{RemoteCommit: 0, OrderedBuffering: fabric.WriteThrough, DDIODisabled: fabric.NonTemporal}

// send hands p, which was stored at off, to every mirror.
func (t *Tx) send(off uint64, p []byte) {
	if t.note(off, uint64(len(p))); len(t.links) == 0 {
		return
	}
	t.beginEpoch()
	if t.direct {
		for _, l := range t.links {
			l.write(HeadSize+off, fabric.Span{Key: t.r.whole, Off: HeadSize + off}, uint64(len(p)))
		}
		t.postFull()
		return
	}
	for len(p) > 0 {
		n := min(uint64(len(p)), t.stage.most())
		from, ok := t.place(off, n)
		if !ok {
			return // the last mirror is gone
		}
		copy(t.stage.bytes[from:], p[:n])
		for _, l := range t.links {
			l.write(HeadSize+off, fabric.Span{Key: t.stage.key, Off: from}, n)
		}
		t.report()
		t.postFull()
		off += n
		p = p[n:]
	}
}

func (t *Tx) sendWord(off, v uint64) {
	if t.note(off, 8); len(t.links) == 0 {
		return
	}
	t.beginEpoch()
	for _, l := range t.links {
		l.word(HeadSize+off, v)
	}
	t.postFull()
}

// beginEpoch posts what goes before the first write of an epoch.
func (t *Tx) beginEpoch() {
	t.sent = true
	if !t.begun {
		return
	}
	t.begun = false
	if t.r.opts.Strategy == OrderedBuffering {
		for _, l := range t.links {
			l.ops = append(l.ops, fabric.Op{Kind: fabric.Fence, A: fabric.Durable})
		}
	}
}

// endEpoch is the mirrors' part of a Barrier.
func (t *Tx) endEpoch() {
	t.begun = true
	if t.r.opts.Strategy == RemoteCommit {
		t.remoteCommit()
	}
}

// end is the mirrors' part of a Commit.
func (t *Tx) end() {
	switch {
	case !t.sent:
	case t.r.opts.Strategy == RemoteCommit:
		if t.wrote {
			t.remoteCommit()
		}
	case t.r.opts.Strategy == OrderedBuffering:
		t.serial++
		for _, l := range t.links {
			l.last(fabric.Op{Kind: fabric.Fence, A: fabric.Durable}, t.serial)
		}
		t.complete()
	case t.r.opts.Strategy == DDIODisabled:
		t.serial++
		scratch := fabric.Span{Key: t.stage.key, Off: t.stage.scratch()}
		for _, l := range t.links {
			l.last(fabric.Op{Kind: fabric.Read, Local: scratch, Remote: fabric.Addr{Key: l.key}, Len: 8}, t.serial)
		}
		t.complete()
	}
	t.begun, t.sent = false, false
	t.touched.reset()
}

// remoteCommit waits until the epoch is durable at every mirror.
func (t *Tx) remoteCommit() {
	t.serial++
	for _, l := range t.links {
		l.last(l.flush(), t.serial)
	}
	t.complete()
}

// complete waits for the newest operation, which was posted behind all others: what was staged is free then.
func (t *Tx) complete() {
	for _, l := range t.links {
		l.post()
	}
	t.await(t.serial)
	t.stage.clear()
}

// await waits until every link has completed the operation of that serial. Links that fail are gone afterwards.
func (t *Tx) await(serial uint64) {
	failed := false
	for _, l := range t.links {
		l.await(serial)
		failed = failed || l.err != nil
	}
	if failed {
		t.dropFailed()
	}
}

// place finds room for n bytes in the stage, congruent modulo 8 to where they go, and waits for it if it has to. False: no
// mirror is left to wait for.
func (t *Tx) place(off, n uint64) (from uint64, ok bool) {
	for {
		if from, ok = t.stage.take(off%8, n); ok {
			return from, true
		}
		serial := t.stage.oldest()
		for _, l := range t.links {
			l.post() // it may still be there
		}
		if t.await(serial); len(t.links) == 0 {
			t.stage.clear()
			return 0, false
		}
		t.stage.reclaim(serial)
	}
}

// report asks the write just added to report its completion, now and then, so that its stage can be used again.
func (t *Tx) report() {
	if !t.stage.due() {
		return
	}
	t.serial++
	for _, l := range t.links {
		op := &l.ops[len(l.ops)-1]
		op.Flags |= fabric.Signaled
		op.ID = t.serial
	}
	t.stage.mark(t.serial)
}

// postFull hands over what has gathered, if it is a batch.
func (t *Tx) postFull() {
	failed := false
	for _, l := range t.links {
		if len(l.ops) >= l.batch {
			l.post()
			failed = failed || l.err != nil
		}
	}
	if failed {
		t.dropFailed()
	}
}

// dropFailed ends the links that have failed.
func (t *Tx) dropFailed() {
	changed := false
	t.links = slices.DeleteFunc(t.links, func(l *link) bool {
		if l.err == nil {
			return false
		}
		l.conn.Close()
		t.touched.into(l.peer.dirty)
		if err := t.r.lose(l.peer, l.err); err != nil {
			t.err = errors.Join(t.err, err)
		} else {
			changed = true
		}
		return true
	})
	if changed {
		t.announce()
	}
}

// dropLost ends the links to mirrors that other transactions have lost, although they may work: such a transaction has ended,
// a mirror may hold a part of it, and nothing that builds on it may follow.
func (t *Tx) dropLost() {
	before := len(t.links)
	t.links = slices.DeleteFunc(t.links, func(l *link) bool {
		why := l.peer.lost.Load()
		if why == nil {
			return false
		}
		l.conn.Close()
		t.touched.into(l.peer.dirty)
		if t.r.opts.OnLoss != GoOn { // what it wrote and writes is not on the mirror
			t.err = errors.Join(t.err, *why)
		} else if err := t.r.why(); err != nil {
			t.err = errors.Join(t.err, err)
		}
		return true
	})
	if len(t.links) < before {
		t.announce()
	}
}

// announce tells the mirrors that are left of the generation that began when one was lost, durably. Every transaction that
// goes on without a mirror does, before it commits: who opens a mirror's copy later must not take the lost one for as new.
//
// One does at a time: on another connection, an older generation could land behind a newer one.
func (t *Tx) announce() {
	if !t.announcing && t.r.claim() {
		t.announcing = true
		defer func() { t.announcing = false; t.r.announcing.Unlock() }()
	}
	state := t.r.Label().State
	t.serial++
	for _, l := range t.links {
		l.ops = append(l.ops, fabric.Op{Kind: fabric.Write8, Remote: fabric.Addr{Key: l.key, Off: stateOff}, A: state.word()})
		l.last(fabric.Op{Kind: fabric.Flush, A: fabric.Durable, Remote: fabric.Addr{Key: l.key, Off: stateOff}, Len: 8}, t.serial)
		l.post()
	}
	t.await(t.serial)
}

// claim waits for the right to announce. False: on a fabric that is simulated nothing will happen any more, so nobody's
// announcement is on its way.
func (r *Region) claim() bool {
	if r.opts.Idle == nil {
		r.announcing.Lock()
		return true
	}
	for !r.announcing.TryLock() {
		if r.opts.Idle() != nil {
			return false
		}
	}
	return true
}

// note keeps account of what lost mirrors miss, and of what one that is lost before the end will miss. Nothing is sent to lost
// ones afterwards.
func (t *Tx) note(off, n uint64) {
	lost := t.r.lost.Load() > 0
	if lost && len(t.links) > 0 {
		t.dropLost()
	}
	if !t.track {
		return
	}
	t.touched.add(HeadSize+off, n)
	if lost {
		for _, p := range t.r.peers {
			if p.lost.Load() != nil {
				p.dirty.mark(HeadSize+off, n)
			}
		}
	}
}
