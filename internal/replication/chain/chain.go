// Package chain is classic chain replication (van Renesse and Schneider, OSDI 2004) as a [replication.Core]: writes enter at
// the head, which is P, each member passes slots and bytes on to its successor, the tail acknowledges, and the tail alone
// answers reads. It is the yardstick for package whale, over the same log, slots and fabric.
//
// What costs it time is what whale avoids: every member's CPU has to take a write in and pass it on before it is
// acknowledged, so that a write takes as many hops, and as many wake-ups, as there are members.
//
// Views begin as those of whale do: what members lack of the log up to the view's end P sends to all of them itself.
package chain

import (
	"whale/fabric"
	"whale/internal/plog"
	"whale/internal/replication"
)

// tick is how long P leaves a member that is behind alone.
const tick = 100e6

// idSent: the successor (at a view's beginning, P: any member) holds slots and bytes up to seq durably.
const idSent = 1

// Core is one member's side. Make it with New.
type Core struct {
	replication.Batch
	bad  Fault
	end  uint64
	s    uint64
	dw   uint64
	mine []plog.Rec // scratch

	peers     []peer // P
	published uint64
	pubDW     uint64
	ask       uint64
	nextTick  int64

	whole           uint64 // backup: the end of the last group of which every record is here
	forwarded, sent uint64 // backup: the successor holds; was sent
	asked           uint64
	told            replication.Progress
	toldLoud        uint64
}

type peer struct {
	sent     uint64 // behind a completed flush of P
	reported replication.Progress
}

// Fault takes one rule away, for tests.
type Fault uint8

const (
	FaultNone Fault = iota
	// FaultHeadCommits acknowledges when the head's successor has the write.
	FaultHeadCommits
)

// Break makes the core obey the protocol but for one rule.
func (c *Core) Break(f Fault) { c.bad = f }

// New makes a core for a member whose memory has this geometry.
func New(geo plog.Geometry) *Core { return &Core{Batch: replication.Batch{Geo: geo}} }

// Name implements [replication.Core].
func (c *Core) Name() string { return "chain" }

// Reader implements [replication.Core]: the tail.
func (c *Core) Reader(v *replication.View) int { return len(v.Members) - 1 }

// Held implements [replication.Core].
func (c *Core) Held(member int) uint64 {
	switch {
	case c.View == nil || member >= len(c.peers):
		return 0
	case member == c.View.Self:
		return c.end
	}
	return c.peers[member].reported.Durable
}

// Step implements [replication.Core].
func (c *Core) Step(in *replication.Input, out *replication.Effects) {
	out.Reset()
	if in.View != nil {
		c.begin(in.View, in.Now)
	}
	if c.View == nil {
		return
	}
	c.Clear()
	if c.View.Primary() {
		c.stepHead(in, out)
	} else {
		c.stepMember(in, out)
	}
	c.Take(out)
	out.Stable, out.Every = c.s, c.dw
}

func (c *Core) begin(v *replication.View, now int64) {
	c.Begin(v)
	c.peers, c.s, c.dw = nil, 0, 0
	c.published, c.pubDW, c.nextTick = 0, 0, now+tick
	have := v.Members[v.Self].DataEnd
	c.end, c.whole, c.forwarded, c.sent, c.told, c.toldLoud = have, 0, have, have, replication.Progress{}, have
	if have == v.End {
		c.whole = have // else the log here may end inside a group; the end of one is on its way
	}
	if !v.Primary() {
		return
	}
	c.end = v.Base()
	c.s = c.end
	for _, m := range v.Members {
		p := peer{sent: m.DataEnd, reported: replication.Progress{Drained: m.DataEnd, Durable: m.DataEnd, Forwarded: m.DataEnd}}
		if m.DataEnd < v.End {
			p.reported.Durable = 0 // its log may end inside a group, which a restart cuts: it counts what it says in this view
		}
		c.peers = append(c.peers, p)
	}
}

func (c *Core) tail() int { return len(c.View.Members) - 1 }

// stepHead is P's step.
func (c *Core) stepHead(in *replication.Input, out *replication.Effects) {
	for _, d := range in.Done {
		if kind, seq := c.Mine(d.ID); kind == idSent && d.Peer < len(c.peers) {
			c.peers[d.Peer].sent = max(c.peers[d.Peer].sent, seq)
		}
	}
	for i := 1; i < len(c.peers) && i < len(in.Peers); i++ {
		c.peers[i].reported.Add(in.Peers[i], c.end)
	}
	c.enter(in.Appended, out)
	c.commit()
	behind := false
	for i := 1; i < len(c.peers); i++ {
		behind = behind || c.peers[i].reported.Lags(c.end)
	}
	if in.Ask || behind && in.Now >= c.nextTick {
		c.ask++
		for i := 1; i < len(c.peers); i++ {
			c.Publish(i, fabric.Notify)
		}
		c.nextTick = in.Now + tick
	}
	if in.Idle && (c.published != c.s || c.pubDW != c.dw) {
		for i := 1; i < len(c.peers); i++ {
			c.Publish(i, 0)
		}
		c.published, c.pubDW = c.s, c.dw
	}
	out.Ask = c.ask
	out.Room = int(c.Geo.RingSlots)
	for i := 1; i < len(c.peers); i++ {
		out.Room = min(out.Room, c.Room(c.peers[i].reported.Drained, c.end))
	}
	if behind {
		out.Wake = c.nextTick
	} else {
		c.nextTick = in.Now + tick
	}
}

// enter takes in what was appended: records up to the view's end go to every member that lacks them, later ones to the
// successor alone.
func (c *Core) enter(recs []plog.Rec, out *replication.Effects) {
	for _, r := range recs {
		c.end = r.Seq
		if r.Seq <= c.View.End {
			r.Flags |= plog.Direct
		}
		out.Slots = append(out.Slots, plog.Slot{Rec: r, S: c.s, DW: c.dw, Epoch: c.View.Epoch})
	}
	for i := 1; i < len(c.peers); i++ {
		mine := c.mine[:0]
		for k := range out.Slots {
			r := out.Slots[k].Rec
			if r.Seq > c.View.Members[i].DataEnd && (i == 1 || r.Seq <= c.View.End) {
				mine = append(mine, r)
			}
		}
		if c.mine = mine; len(mine) > 0 {
			c.pass(i, mine)
		}
	}
}

// commit moves S: what P sent to all itself is stable when all have it, what came later when the tail reports it.
func (c *Core) commit() {
	old := c.end
	for i := 1; i < len(c.peers); i++ {
		old = min(old, max(c.peers[i].sent, c.peers[i].reported.Durable))
	}
	s := min(old, c.View.End)
	if old >= c.View.End {
		s = c.end
		if t := c.tail(); t > 0 {
			s = max(c.View.End, c.peers[t].reported.Durable)
			if c.bad == FaultHeadCommits {
				s = max(s, c.peers[1].sent)
			}
		}
	}
	c.s = max(c.s, min(s, c.end))
	dw := c.s
	for i := 1; i < len(c.peers); i++ {
		dw = min(dw, c.peers[i].reported.Durable, c.peers[i].reported.Forwarded)
	}
	c.dw = max(c.dw, dw)
}

// stepMember is a backup's step.
func (c *Core) stepMember(in *replication.Input, out *replication.Effects) {
	for _, d := range in.Done {
		if kind, seq := c.Mine(d.ID); kind == idSent {
			c.forwarded = max(c.forwarded, seq)
		}
	}
	if n := len(in.Appended); n > 0 {
		c.end = in.Appended[n-1].Seq
		for _, r := range in.Appended {
			if r.Flags.Has(plog.GroupEnd) {
				c.whole = r.Seq
			}
		}
		next := c.View.Self + 1
		mine := c.mine[:0]
		for _, r := range in.Appended {
			if r.Seq > c.View.End {
				mine = append(mine, r)
			}
		}
		c.mine = mine
		switch {
		case next > c.tail() || len(mine) == 0:
			c.forwarded, c.sent = max(c.forwarded, c.end), c.end
		default:
			c.pass(next, mine)
			c.sent = c.end
		}
	}
	if c.View.Self == c.tail() {
		c.s = c.whole // what the tail holds is committed, but no part of a group
		if in.Refresh {
			out.Fresh, out.FreshHere = true, true
		}
	}
	c.report(in, out)
}

// report tells P how far this member is. The tail's report is the acknowledgement: it goes out at once, and rings.
func (c *Core) report(in *replication.Input, out *replication.Effects) {
	now := replication.Progress{Drained: in.Drained, Durable: c.whole, Forwarded: c.forwarded}
	asked := in.Asked != c.asked && in.Idle
	full := now.Drained-min(now.Drained, c.toldLoud) >= c.Geo.RingSlots/4
	loud := asked || full || c.View.Self == c.tail() && now.Durable > c.told.Durable
	if !loud && !(in.Idle && now != c.told) {
		return
	}
	var flags fabric.Flags
	if loud {
		flags, c.toldLoud = fabric.Notify, now.Drained
	}
	if asked {
		c.asked = in.Asked
	}
	c.told = now
	out.Report, out.HasReport = now, true
	c.Report(flags)
}

// pass posts bytes and slots of records in seq order to a member, with one flush behind them, and rings it: the next step
// is its own.
func (c *Core) pass(to int, recs []plog.Rec) {
	c.Bytes(to, recs, nil, 0)
	c.Slots(to, recs[0].Seq, uint64(len(recs)), fabric.Notify)
	c.Flush(to, fabric.Durable, c.ID(idSent, c.end))
}
