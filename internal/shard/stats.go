package shard

import (
	"sort"
	"time"

	"whale/fabric"
	"whale/internal/plog"
)

// Counters count what the engine has done since it was made.
type Counters struct {
	Executed    uint64 // (P) commands, also those of other members' clients
	Forwarded   uint64 // (backup) commands sent to P
	DirtyReads  uint64 // (backup) reads that needed P's word
	Views       uint64 // views that were formed
	Operations  uint64 // handed to the fabric: writes, reads, flushes
	Completions uint64 // of operations, messages included
	Flushes     uint64 // completed
}

func (c *Counters) completed(kind fabric.Kind) {
	c.Completions++
	if kind == fabric.Flush {
		c.Flushes++
	}
}

// Lag is how far a position is behind the end of the log here.
type Lag struct {
	Records uint64
	Bytes   uint64        // of the log; at least so many if they are more records than the ring has slots
	Time    time.Duration // how long ago the oldest record that the position does not cover came into the log; at least so long if that was seconds ago
}

// Lags are how far positions are behind what is prepared.
type Lags struct {
	Stable     Lag
	Everywhere Lag         // (P)
	Members    []MemberLag // (P) by number, without P's own
}

// MemberLag is how far a backup is behind.
type MemberLag struct{ Drained, Durable, Forwarded Lag }

// past remembers when the log had which end, once a millisecond while it grows.
type past struct {
	samples [1 << 12]struct {
		at  int64
		end uint64
	}
	n int // samples ever taken
}

func (p *past) note(now int64, end uint64) {
	if p.n > 0 {
		if last := &p.samples[(p.n-1)%len(p.samples)]; last.end == end || now-last.at < int64(time.Millisecond) {
			return
		}
	}
	s := &p.samples[p.n%len(p.samples)]
	s.at, s.end = now, end
	p.n++
}

// since is when the record behind seq came, to a millisecond; 0: nothing is known.
func (p *past) since(seq uint64) int64 {
	first := max(0, p.n-len(p.samples))
	if p.n == 0 {
		return 0
	}
	// Ends only grow. If no sample shows the record, it came right after the last.
	i := sort.Search(p.n-1-first, func(i int) bool { return p.samples[(first+i)%len(p.samples)].end > seq })
	return p.samples[(first+i)%len(p.samples)].at
}

// Lags describes the positions as they are now. It costs little, and is for people: not for every step.
func (e *Engine) Lags(now int64) Lags {
	l := Lags{Stable: e.lag(e.st.Stable(), now)}
	if !e.primary() {
		return l
	}
	l.Everywhere = e.lag(e.out.Every, now)
	for _, m := range e.Status().Members {
		var b MemberLag
		if !m.Self {
			b = MemberLag{Drained: e.lag(m.Drained, now), Durable: e.lag(m.Durable, now), Forwarded: e.lag(m.Forwarded, now)}
		}
		l.Members = append(l.Members, b)
	}
	return l
}

func (e *Engine) lag(seq uint64, now int64) Lag {
	end := e.log.End()
	if seq >= end {
		return Lag{}
	}
	l := Lag{Records: end - seq}
	// The ring knows where the latest records stand; for a lag beyond it, all of the ring is the best that is known.
	g := e.log.Geometry()
	oldest := max(seq+1, end+1-min(end, g.RingSlots))
	if s, ok := plog.LoadSlot(e.mem, g.SlotOff(oldest)); ok && s.Seq == oldest {
		l.Bytes = e.log.Tail() - s.Off
	}
	if at := e.past.since(seq); at != 0 {
		l.Time = time.Duration(max(0, now-at))
	}
	return l
}
