package whale

import (
	"whale/fabric"
	"whale/internal/plog"
	"whale/internal/replication"
)

// backup is what a member other than P keeps.
type backup struct {
	whole     uint64 // the end of the last group of which every record is held: a restart cuts the part of another one
	forwarded uint64 // the successor holds everything up to here
	sent      uint64 // the forward posted last reaches up to here
	asked     uint64 // P's questions answered so far
	told      replication.Progress
	toldLoud  uint64 // drained, when P was last rung
}

func (c *Core) beginBackup(v *replication.View) {
	have := v.Members[v.Self].DataEnd
	c.end, c.s, c.dw = have, 0, 0
	c.peers = nil
	c.backup = backup{forwarded: have, sent: have, toldLoud: have}
	if have == v.End {
		c.whole = have // else the log here may end inside a group; the end of one is on its way
	}
}

func (c *Core) stepBackup(in *replication.Input, out *replication.Effects) {
	refreshed, fetched := c.arrived(in.Done)
	c.forward(in.Appended)
	if in.Refresh {
		c.CopyWord(0, c.Geo.Control()+plog.OffS, c.Geo.Control()+replication.OffScratch)
		c.Signal(0, c.ID(idRefresh, 0))
	}
	for _, r := range in.Fetch {
		off, n := c.Geo.Span(r)
		c.CopyFrom(0, c.Geo.Arena()+off, n)
		c.Signal(0, c.ID(idFetch, 0))
	}
	out.Fresh, out.Fetched = refreshed, fetched
	c.report(in, out)
	out.Wake = 0
}

func (c *Core) arrived(done []replication.Done) (refreshed, fetched bool) {
	for _, d := range done {
		kind, seq := c.Mine(d.ID)
		switch kind {
		case idForward:
			c.forwarded = max(c.forwarded, seq)
		case idRefresh:
			refreshed = true
		case idFetch:
			fetched = true
		}
	}
	return refreshed, fetched
}

// forward passes newly held records on to the successor in the chain. Records that P sent to all directly are skipped;
// members before the last mirror have nothing to forward, since P serves the mirrors.
func (c *Core) forward(recs []plog.Rec) {
	if len(recs) == 0 {
		return
	}
	c.end = recs[len(recs)-1].Seq
	for i := len(recs) - 1; i >= 0; i-- {
		if recs[i].Flags.Has(plog.GroupEnd) {
			c.whole = recs[i].Seq
			break
		}
	}
	next := c.View.Self + 1
	if next >= len(c.View.Members) || next <= c.View.Mirrors {
		// The end of the chain, or a mirror whose successor is one too.
		c.sent, c.forwarded = c.end, c.end
		return
	}
	relayed := func(r *plog.Rec) bool { return r.Flags&plog.Direct == 0 }
	if c.bad == FaultNoChain {
		c.sent, c.forwarded = c.end, c.end
		return
	}
	if c.Bytes(next, recs, relayed, fabric.Notify) > 0 {
		if c.bad == FaultForwardWritten {
			c.sent, c.forwarded = c.end, c.end
			return
		}
		c.Flush(next, fabric.Durable, c.ID(idForward, c.end))
		c.sent = c.end
		return
	}
	if c.sent == c.forwarded { // nothing is on its way: all that is held counts
		c.sent, c.forwarded = c.end, c.end
		return
	}
	// A forward is on its way and these need none: they count when it has arrived.
	c.Flush(next, fabric.Visible, c.ID(idForward, c.end))
	c.sent = c.end
}

// report tells P how far this member is: at once when P asked or would soon be short of room, else when there is nothing
// better to do; and it rings P only in the first two cases, since P looks by itself ten times a second.
func (c *Core) report(in *replication.Input, out *replication.Effects) {
	now := replication.Progress{Drained: in.Drained, Durable: c.whole, Forwarded: c.forwarded}
	asked := in.Asked != c.asked
	full := now.Drained-min(now.Drained, c.toldLoud) >= c.Geo.RingSlots/4
	quiet := in.Idle && now != c.told
	// An answer waits until everything that can be done here is done: P would otherwise ask again.
	if !(asked && in.Idle) && !full && !quiet {
		return
	}
	var flags fabric.Flags
	if full || asked && in.Idle {
		flags = fabric.Notify
		c.toldLoud = now.Drained
	}
	if asked && in.Idle {
		c.asked = in.Asked
	}
	c.told = now
	out.Report, out.HasReport = now, true
	c.Report(flags)
}
