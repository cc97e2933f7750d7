package whale

import (
	"fmt"
	"strings"
	"testing"

	"whale/fabric"
	"whale/internal/plog"
	"whale/internal/replication"
)

var geo = plog.Geometry{RingSlots: 64, SegmentSize: 64 << 10, Segments: 4}

// story drives one core by hand.
type story struct {
	t   *testing.T
	c   *Core
	out replication.Effects
	now int64
}

func begin(t *testing.T, self int, end uint64, dataEnds ...uint64) *story {
	s := &story{t: t, c: New(geo)}
	v := &replication.View{Epoch: 3, Self: self, Mirrors: 1, End: end}
	for i, e := range dataEnds {
		v.Members = append(v.Members, replication.Member{ID: i, Key: fabric.Key(100 + i), DataEnd: e})
	}
	s.step(replication.Input{View: v})
	return s
}

func (s *story) step(in replication.Input) string {
	s.now++
	in.Now = s.now
	s.c.Step(&in, &s.out)
	return s.posts()
}

// posts tells what was posted, a peer a line.
func (s *story) posts() string {
	var b strings.Builder
	for _, p := range s.out.Posts {
		fmt.Fprintf(&b, "%d:", p.Peer)
		for _, o := range p.Ops {
			off := o.Remote.Off + geo.Control()
			switch {
			case o.Kind == fabric.Flush && o.A == fabric.Durable:
				b.WriteString(" flush-durable")
			case o.Kind == fabric.Flush:
				b.WriteString(" flush-visible")
			case o.Kind == fabric.Read && off < geo.Ring():
				b.WriteString(" read-S")
			case o.Kind == fabric.Read:
				fmt.Fprintf(&b, " read@%d+%d", off-geo.Arena(), o.Len)
			case off >= geo.Arena():
				fmt.Fprintf(&b, " data@%d+%d", off-geo.Arena(), o.Len)
			case off >= geo.Ring():
				fmt.Fprintf(&b, " slots@%d+%d", (off-geo.Ring())/64, o.Len/64)
			default:
				fmt.Fprintf(&b, " control+%d", o.Len)
			}
			if o.Flags&fabric.Notify != 0 {
				b.WriteString("!")
			}
			if o.Remote.Key != fabric.Key(100+p.Peer) {
				s.t.Errorf("an operation for peer %d under the key of %d", p.Peer, o.Remote.Key-100)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (s *story) want(got, want string) {
	s.t.Helper()
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		s.t.Fatalf("posted\n%s\nwant\n%s", got, want)
	}
}

// complete is the completions of everything signaled that was posted to the peer last.
func (s *story) complete(peer int) (done []replication.Done) {
	for _, p := range s.out.Posts {
		for _, o := range p.Ops {
			if p.Peer == peer && o.Flags&fabric.Signaled != 0 {
				done = append(done, replication.Done{Peer: peer, ID: o.ID})
			}
		}
	}
	return done
}

// records are small (direct) or, where size says so, large ones, one behind the other.
func records(first, off uint64, sizes ...uint32) (recs []plog.Rec) {
	for i, n := range sizes {
		r := plog.Rec{Seq: first + uint64(i), Hash: 7, Off: off, Len: n, Flags: plog.Flags(plog.Put) | plog.GroupEnd}
		recs = append(recs, r)
		off = r.End()
	}
	return recs
}

func TestSMovesWhenEveryFlushHasCompleted(t *testing.T) {
	s := begin(t, 0, 0, 0, 0, 0)
	posted := s.step(replication.Input{Appended: records(1, 64, 128, 128)})
	s.want(posted, "1: data@0+320 slots@1+2 flush-durable\n2: data@0+320 slots@1+2 flush-visible")
	mirror, follower := s.complete(1), s.complete(2)
	if s.step(replication.Input{Done: mirror}); s.out.Stable != 0 {
		t.Fatalf("S = %d although the follower does not know of the write (KnownBeforeStable)", s.out.Stable)
	}
	if s.step(replication.Input{Done: follower}); s.out.Stable != 2 {
		t.Fatalf("S = %d, want 2", s.out.Stable)
	}
	if s.out.Every != 0 {
		t.Fatalf("DW = %d although nobody has reported", s.out.Every)
	}
	all := replication.Progress{Drained: 2, Durable: 2, Forwarded: 2}
	if s.step(replication.Input{Peers: []replication.Progress{{}, all, all}}); s.out.Every != 2 {
		t.Fatalf("DW = %d, want 2", s.out.Every)
	}
	s.want(s.step(replication.Input{Peers: []replication.Progress{{}, all, all}, Idle: true}), "1: control+80\n2: control+80")
	s.want(s.step(replication.Input{Peers: []replication.Progress{{}, all, all}, Idle: true}), "")
	if s.out.Wake != 0 {
		t.Fatal("a timer is armed although all have caught up")
	}
}

func TestLargeRecordsGoToTheMirrorOnly(t *testing.T) {
	s := begin(t, 0, 0, 0, 0, 0)
	s.want(s.step(replication.Input{Appended: records(1, 64, 128, 4096, 128)}),
		"1: data@0+4416 slots@1+3 flush-durable\n2: data@0+192 data@4288+128 slots@1+3 flush-visible")
	if s.out.Slots[0].Flags&plog.Direct == 0 || s.out.Slots[1].Flags&plog.Direct != 0 {
		t.Fatal("a slot says direct exactly if its bytes go to all")
	}
}

func TestACompletionOfAnEarlierViewMeansNothing(t *testing.T) {
	s := begin(t, 0, 0, 0, 0)
	s.step(replication.Input{Appended: records(1, 64, 128)})
	old := s.complete(1)
	s.step(replication.Input{View: &replication.View{Epoch: 4, Mirrors: 1, End: 1, Members: []replication.Member{{ID: 0, Key: 100, DataEnd: 1}, {ID: 1, Key: 101}}}})
	if s.step(replication.Input{Done: old}); s.out.Stable != 0 {
		t.Fatalf("S = %d by a completion of the view before", s.out.Stable)
	}
	posted := s.step(replication.Input{Appended: records(1, 64, 4096)})
	s.want(posted, "1: data@0+4160 slots@1+1 flush-durable")
	if s.out.Slots[0].Flags&plog.Direct == 0 {
		t.Fatal("what is sent again goes to all directly")
	}
	if s.step(replication.Input{Done: s.complete(1)}); s.out.Stable != 1 {
		t.Fatalf("S = %d, want 1", s.out.Stable)
	}
}

func TestSlotsThatAMemberHasAreNotSentAgain(t *testing.T) {
	s := begin(t, 0, 3, 3, 3, 1)
	s.want(s.step(replication.Input{Appended: records(2, 64, 128, 128)}), "2: data@0+320 slots@2+2 flush-visible")
	if s.step(replication.Input{Done: s.complete(2)}); s.out.Stable != 3 {
		t.Fatalf("S = %d, want 3", s.out.Stable)
	}
}

func TestARingIsNeverOverrun(t *testing.T) {
	s := begin(t, 0, 0, 0, 0, 0)
	if s.out.Room != 64 {
		t.Fatalf("room for %d slots, want 64", s.out.Room)
	}
	sizes := make([]uint32, 40)
	for i := range sizes {
		sizes[i] = 128
	}
	s.want(s.step(replication.Input{Appended: records(1, 64, sizes...)}), "1: data@0+5184 slots@1+40! flush-durable\n2: data@0+5184 slots@1+40! flush-visible")
	fast := replication.Progress{Drained: 40}
	if s.step(replication.Input{Peers: []replication.Progress{{}, fast, {}}}); s.out.Room != 24 {
		t.Fatalf("room for %d slots while one member has drained nothing, want 24", s.out.Room)
	}
	if s.step(replication.Input{Peers: []replication.Progress{{}, fast, {Drained: 1 << 40}}}); s.out.Room != 24 {
		t.Fatalf("a report beyond the log's end was believed: room %d", s.out.Room)
	}
	s.step(replication.Input{Peers: []replication.Progress{{}, fast, fast}})
	s.want(s.step(replication.Input{Appended: records(41, 8192, sizes...)}),
		"1: data@8192+5120 slots@41+23 slots@0+17! flush-durable\n2: data@8192+5120 slots@41+23 slots@0+17! flush-visible")
}

func TestABackupThatIsBehindIsRungTenTimesASecond(t *testing.T) {
	s := begin(t, 0, 0, 0, 0, 0)
	s.step(replication.Input{Appended: records(1, 64, 128)})
	s.step(replication.Input{Idle: true})
	wake := s.out.Wake
	if wake == 0 {
		t.Fatal("no timer although nobody has reported")
	}
	s.now = wake
	up := replication.Progress{Drained: 1, Durable: 1, Forwarded: 1}
	s.want(s.step(replication.Input{Peers: []replication.Progress{{}, up, {}}, Idle: true}), "2: control+80!")
	if s.out.Ask != 1 || s.out.Wake <= wake {
		t.Fatalf("asked %d times, next at %d", s.out.Ask, s.out.Wake)
	}
}

func TestTheMirrorForwardsWhatWasNotSentDirectly(t *testing.T) {
	s := begin(t, 1, 0, 0, 0, 0)
	recs := records(1, 64, 4096, 4096, 128, 4096)
	recs[2].Flags |= plog.Direct
	s.want(s.step(replication.Input{Appended: recs, Drained: 4}), "2: data@0+8256 data@8384+4096! flush-durable")
	done := s.complete(2)
	s.want(s.step(replication.Input{Drained: 4, Idle: true}), "0: control+24")
	if got := s.out.Report; got != (replication.Progress{Drained: 4, Durable: 4}) {
		t.Fatalf("reported %+v although the forward is on its way", got)
	}
	s.want(s.step(replication.Input{Done: done, Drained: 4, Idle: true}), "0: control+24")
	if s.out.Report.Forwarded != 4 {
		t.Fatalf("reported %+v after the forward", s.out.Report)
	}
	s.want(s.step(replication.Input{Drained: 4, Idle: true}), "")
}

func TestTheTailForwardsNothing(t *testing.T) {
	s := begin(t, 2, 0, 0, 0, 0)
	s.want(s.step(replication.Input{Appended: records(1, 64, 4096), Drained: 1, Idle: true}), "0: control+24")
	if s.out.Report != (replication.Progress{Drained: 1, Durable: 1, Forwarded: 1}) {
		t.Fatalf("reported %+v", s.out.Report)
	}
}

func TestABackupRingsPOnlyWhenAskedOrNearlyFull(t *testing.T) {
	s := begin(t, 2, 0, 0, 0, 0)
	s.want(s.step(replication.Input{Drained: 1, Idle: true}), "0: control+24")
	s.want(s.step(replication.Input{Drained: 2, Asked: 1}), "")
	s.want(s.step(replication.Input{Drained: 2, Asked: 1, Idle: true}), "0: control+24!")
	s.want(s.step(replication.Input{Drained: 2, Asked: 1, Idle: true}), "")
	s.want(s.step(replication.Input{Drained: 2 + 16}), "0: control+24!")
}

func TestReadsOfSAndOfBytes(t *testing.T) {
	s := begin(t, 2, 0, 0, 0, 0)
	s.want(s.step(replication.Input{Refresh: true, Fetch: records(1, 64, 4096)}), "0: read-S read@0+4160")
	done := s.complete(0)
	s.step(replication.Input{Done: done[:1]})
	if !s.out.Fresh || s.out.Fetched {
		t.Fatal("S has been read, the bytes have not")
	}
	s.step(replication.Input{Done: done[1:]})
	if s.out.Fresh || !s.out.Fetched {
		t.Fatal("the bytes have been read")
	}
}

func TestAClusterOfOneNeedsNobody(t *testing.T) {
	s := begin(t, 0, 0, 0)
	if s.step(replication.Input{Appended: records(1, 64, 128)}); s.out.Stable != 1 || s.out.Every != 1 || len(s.out.Posts) != 0 {
		t.Fatalf("S = %d, DW = %d", s.out.Stable, s.out.Every)
	}
}

func TestStepAllocatesNothing(t *testing.T) {
	s := begin(t, 0, 0, 0, 0, 0)
	recs := records(1, 64, 128)
	peers := make([]replication.Progress, 3)
	off := uint64(64)
	n := testing.AllocsPerRun(1000, func() {
		recs[0].Seq++
		off = recs[0].End()
		recs[0].Off = off % 60000 &^ 7
		all := replication.Progress{Drained: recs[0].Seq - 1}
		peers[1], peers[2] = all, all
		in := replication.Input{Appended: recs, Peers: peers}
		s.c.Step(&in, &s.out)
	})
	if n != 0 {
		t.Fatalf("%v allocations a step", n)
	}
}

func TestTheBrokenVariantsDiffer(t *testing.T) {
	early := begin(t, 0, 0, 0, 0, 0)
	early.c.Break(FaultEarlyCommit)
	early.want(early.step(replication.Input{Appended: records(1, 64, 128)}), "1: data@0+192 slots@1+1\n2: data@0+192 slots@1+1")
	only := begin(t, 0, 0, 0, 0, 0)
	only.c.Break(FaultDataOnly)
	only.step(replication.Input{Appended: records(1, 64, 128)})
	if only.step(replication.Input{Done: only.complete(1)}); only.out.Stable != 1 {
		t.Fatal("the variant waits for the follower all the same")
	}
}

// The log of a backup that lacks records may end inside a group, which a restart would cut: what it held when the view began
// is reported as durable only when the group's end is here.
func TestABackupThatLacksRecordsReportsWholeGroups(t *testing.T) {
	s := begin(t, 2, 10, 10, 10, 5)
	s.step(replication.Input{Drained: 5, Idle: true})
	if got := s.out.Report.Durable; !s.out.HasReport || got != 0 {
		t.Errorf("reported %d durable, although the records up to 5 may end inside a group", got)
	}
	s.step(replication.Input{Drained: 6, Appended: []plog.Rec{{Seq: 6, Len: 64, Flags: plog.Flags(plog.Put) | plog.GroupEnd}}})
	s.step(replication.Input{Drained: 6, Idle: true})
	if got := s.out.Report.Durable; got != 6 {
		t.Errorf("reported %d durable, want 6", got)
	}
	s = begin(t, 2, 10, 10, 10, 10)
	s.step(replication.Input{Drained: 10, Idle: true})
	if got := s.out.Report.Durable; got != 10 {
		t.Errorf("reported %d durable by a backup that lacks nothing, want 10", got)
	}
}

// The part of a group that is held is not reported: a restart would cut it, and P would have told everybody that it is
// everywhere.
func TestABackupReportsWholeGroups(t *testing.T) {
	s := begin(t, 2, 0, 0, 0, 0)
	recs := records(1, 64, 64, 64, 64, 64)
	recs[1].Flags &^= plog.GroupEnd // 1, then 2 and 3, then the beginning of another
	recs[3].Flags &^= plog.GroupEnd
	held := func(n int, want uint64) {
		t.Helper()
		s.step(replication.Input{Drained: 4, Appended: recs[n-1 : n]})
		s.step(replication.Input{Drained: 4, Idle: true})
		if got := s.out.Report.Durable; s.out.HasReport && got != want {
			t.Errorf("with the records up to %d, %d are reported durable, want %d", n, got, want)
		}
	}
	held(1, 1)
	held(2, 1)
	held(3, 3)
	held(4, 3)
	asked := replication.Input{Drained: 4, Asked: 1, Idle: true}
	if s.step(asked); !s.out.HasReport || s.out.Report.Durable != 3 {
		t.Errorf("when asked, %+v is reported, want 3 durable", s.out.Report)
	}
}
