package shard

import (
	"whale/fabric"
	"whale/internal/plog"
	"whale/internal/replication"
)

// seqOf is the seq in a word that another member wrote, if it is of this view's epoch.
func (e *Engine) seqOf(word uint64) (uint64, bool) {
	if e.bad == FaultAnyEpoch {
		_, seq := plog.SplitWord(word)
		return seq, true
	}
	return plog.SeqIn(word, e.view.Epoch)
}

// stepCore gives the core what has come up, and carries out what it answers. It says whether anything was posted.
func (e *Engine) stepCore(idle bool) bool {
	if e.view == nil {
		return false // a message that came since has ended it
	}
	in, out := &e.in, &e.out
	in.Now, in.Idle = e.now, idle
	in.Drained = e.st.Drained()
	in.Asked = e.mem.Load64(e.log.Geometry().Control() + replication.OffAsk)
	in.Ask, e.asked = e.asked, false
	if e.primary() {
		e.readProgress()
	}
	e.core.Step(in, out)
	in.View, in.Refresh = nil, false
	in.Appended, in.Done, in.Fetch = in.Appended[:0], in.Done[:0], in.Fetch[:0]
	e.room = out.Room
	e.carryOut(out)
	return len(out.Posts) > 0
}

// readProgress reads what the members wrote into their lines. A word of another epoch means nothing.
func (e *Engine) readProgress() {
	for i, m := range e.view.Members {
		if m.ID == e.cfg.Self {
			continue
		}
		drained, durable, forwarded, _ := e.ctl.Peer(m.ID)
		p := &e.in.Peers[i]
		word := func(w, old uint64) uint64 {
			if seq, ok := e.seqOf(w); ok {
				return seq
			}
			return old
		}
		p.Drained, p.Durable, p.Forwarded = word(drained, p.Drained), word(durable, p.Durable), word(forwarded, p.Forwarded)
	}
}

// carryOut does what the effects say, in their order.
func (e *Engine) carryOut(out *replication.Effects) {
	epoch := e.view.Epoch
	g := e.log.Geometry()
	for i := range out.Slots {
		plog.StoreSlot(e.mem, g.SlotOff(out.Slots[i].Seq), &out.Slots[i])
	}
	if out.HasReport {
		r := out.Report
		e.ctl.SetPeer(e.cfg.Self, plog.Word(epoch, r.Drained), plog.Word(epoch, r.Durable), plog.Word(epoch, r.Forwarded), 0)
	}
	if e.primary() && e.serving.Load() != 0 {
		e.st.SetStable(out.Stable)
		e.ctl.SetS(plog.Word(epoch, out.Stable))
		e.ctl.SetDW(plog.Word(epoch, out.Every))
		e.st.Everywhere(out.Every)
		e.mem.Store64(g.Control()+replication.OffAsk, out.Ask)
	}
	if !e.primary() && e.reader == e.cfg.Self {
		e.st.SetStable(out.Stable) // it is decided here
	}
	for _, p := range out.Posts {
		e.post(&e.links[e.view.Members[p.Peer].ID], p.Ops)
	}
	if out.Fetched {
		e.late.asked = false
		e.resolveFetched()
	}
	if e.view == nil {
		return
	}
	if out.Fresh && out.FreshHere {
		e.st.Drain()
		e.resolveAsked()
	} else if out.Fresh {
		if s, ok := e.seqOf(e.mem.Load64(g.Control() + replication.OffScratch)); ok {
			e.st.Drain() // every slot up to S is visible here: S covers nothing else
			e.st.SetStable(s)
			e.resolveAsked()
		} else {
			e.dirty.restart()
		}
	}
}

func (e *Engine) done(member int, c fabric.Completion) replication.Done {
	d := replication.Done{ID: c.ID, Value: c.Value}
	for i, m := range e.view.Members {
		if m.ID == member {
			d.Peer = i
		}
	}
	return d
}
