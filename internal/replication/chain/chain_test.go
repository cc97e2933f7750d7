package chain

import (
	"testing"

	"whale/internal/plog"
	"whale/internal/replication"
)

// A group may reach the tail in parts. What the tail holds of it is not committed before all of it is there: it would
// answer one key of an MSET and not the other.
func TestTailCommitsWholeGroups(t *testing.T) {
	c := New(plog.Geometry{RingSlots: 64, SegmentSize: 64 << 10, Segments: 2})
	in := replication.Input{View: &replication.View{Epoch: 1, Self: 1, Members: make([]replication.Member, 2)}}
	var out replication.Effects
	c.Step(&in, &out)
	for _, step := range []struct {
		flags plog.Flags
		want  uint64
	}{
		{plog.Flags(plog.Put) | plog.GroupEnd, 1},
		{plog.Flags(plog.Put), 1},
		{plog.Flags(plog.Put) | plog.GroupEnd, 3},
	} {
		in = replication.Input{Appended: []plog.Rec{{Seq: c.end + 1, Len: 64, Flags: step.flags}}}
		if c.Step(&in, &out); out.Stable != step.want || out.HasReport && out.Report.Durable != step.want {
			t.Errorf("record %d, flags %#x: stable %d, reported %d; want %d", c.end, step.flags, out.Stable, out.Report.Durable, step.want)
		}
	}
}
