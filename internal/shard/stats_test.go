package shard

import (
	"fmt"
	"testing"
	"time"

	"whale/fabric/simfab"
	"whale/internal/command"
	"whale/internal/plog"
)

func TestPastFindsWhenARecordCame(t *testing.T) {
	var p past
	if p.since(0) != 0 {
		t.Error("something is known of nothing")
	}
	const ms = int64(time.Millisecond)
	n := len(p.samples)
	for i := range 3 * n { // two records every half millisecond: each second note is one too many
		p.note(int64(i)*ms/2+1, uint64(2*i+2))
	}
	last := int64(3*n-1)*ms/2 + 1
	for _, seq := range []uint64{uint64(6*n - 3), uint64(6*n - 100), uint64(4 * n)} {
		came := int64(seq/2)*ms/2 + 1 // the note that first had the record behind seq
		if got := p.since(seq); got < came-ms || got > came+ms {
			t.Errorf("behind %d: since %d, it came at %d; the last note was at %d", seq, got, came, last)
		}
	}
	if got := p.since(0); got < last-int64(n)*ms-ms {
		t.Errorf("older than all that is known: %d", got)
	}
}

// TestLags: what P's positions are behind by while a backup does not answer, and that nothing is left afterwards.
func TestLags(t *testing.T) {
	s := newSimRig(t, 3, 0, 0, simfab.Options{})
	s.form()
	p := s.members[0].e
	if l := p.Lags(s.now); l.Stable != (Lag{}) || len(l.Members) != 3 {
		t.Fatalf("at rest: %+v", l)
	}
	first := max(p.log.Tail(), plog.SegmentHeaderSize) // where the first record will stand
	s.net.Auto(false)
	c := &command.Client{}
	for i := range 5 {
		s.issue(s.members[0], newRequest(c, "set", fmt.Sprint("k", i), "0123456789"))
	}
	s.step()
	l := p.Lags(s.now + 7*int64(time.Millisecond))
	if l.Stable.Records != 5 || l.Stable.Bytes != p.log.Tail()-first || l.Stable.Time < 7*time.Millisecond || l.Everywhere.Records < 5 || l.Members[1].Durable.Records < 5 {
		t.Errorf("nothing has arrived: %+v", l)
	}
	before := p.Status().Counters
	s.net.Auto(true)
	for range 10 {
		s.step()
	}
	if l := p.Lags(s.now); l.Stable != (Lag{}) {
		t.Errorf("afterwards: %+v", l.Stable)
	}
	after := p.Status().Counters
	if after.Executed != 5 || after.Flushes <= before.Flushes || after.Completions <= after.Flushes || after.Operations == 0 || after.Views != 1 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	b := s.members[1]
	s.issue(b, newRequest(c, "set", "k", "v"))
	s.step()
	s.issue(b, newRequest(c, "mget", "a", "b"))
	s.step()
	if got := b.e.Status().Counters; got.Forwarded != 1 || got.DirtyReads != 1 {
		t.Errorf("a backup: %+v", got)
	}
}
