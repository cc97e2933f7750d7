package shm

import (
	"fmt"
	"slices"
	"testing"

	"whale/fabric"
	"whale/pmem"
)

// witness is a mapped file that notes what is asked of it.
type witness struct {
	*pmem.File
	calls []string
}

func (w *witness) Persist(off, n uint64) {
	w.calls = append(w.calls, fmt.Sprintf("flush %d+%d", off, n))
	w.File.Persist(off, n)
}

func (w *witness) CopyNT(off uint64, src []byte) {
	w.calls = append(w.calls, fmt.Sprintf("past %d+%d", off, len(src)))
	w.File.CopyNT(off, src)
}

func (w *witness) Fence() {
	w.calls = append(w.calls, "fence")
	w.File.Fence()
}

// TestPersistence: which flushes and fences the initiator executes, in which order, on memory whose owner declares ADR. There is no
// crash model for a mapped file: the instructions are what can be looked at.
func TestPersistence(t *testing.T) {
	p := newPair(t)
	conn := p.AB.(*conn)
	file, err := pmem.Map(t.TempDir()+"/adr", 8192, pmem.Options{Domain: pmem.ADR})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	key := register(t, p.B.(*Endpoint), file, allRights)
	local := register(t, p.A.(*Endpoint), pmem.Heap(8192), fabric.LocalOnly)
	var done [1]fabric.Completion
	do := func(ops ...fabric.Op) {
		t.Helper()
		for i := range ops {
			ops[i].Remote.Key, ops[i].Local.Key = key, local
		}
		ops[len(ops)-1].Flags |= fabric.Signaled
		if conn.Post(ops) != len(ops) || conn.Poll(done[:]) != 1 || done[0].Err != nil {
			t.Fatalf("ended with %v", done[0])
		}
	}
	write := func(off, n uint64, f fabric.Flags) fabric.Op {
		return fabric.Op{Kind: fabric.Write, Flags: f, Remote: fabric.Addr{Off: off}, Len: n}
	}
	word := func(off uint64, f fabric.Flags) fabric.Op {
		return fabric.Op{Kind: fabric.Write8, Flags: f, Remote: fabric.Addr{Off: off}}
	}
	read, fence := fabric.Op{Kind: fabric.Read, Len: 8}, fabric.Op{Kind: fabric.Fence, A: fabric.Durable}
	do(read) // maps the file
	seen := &witness{File: conn.remotes[key&keyMask].mem.(*pmem.File)}
	conn.remotes[key&keyMask].mem = seen
	const nt, wt = fabric.NonTemporal, fabric.WriteThrough
	for _, c := range []struct {
		name string
		ops  []fabric.Op
		want []string
	}{
		{"remote commit", []fabric.Op{write(0, 64, 0), word(64, 0), {Kind: fabric.Flush, A: fabric.Durable, B: fabric.Region}},
			[]string{"flush 0+64", "flush 64+8", "fence"}},
		{"remote commit of a range", []fabric.Op{write(0, 64, 0), {Kind: fabric.Flush, A: fabric.Durable, Len: 128}},
			[]string{"flush 0+64", "flush 0+128", "fence"}},
		{"an atomic, too", []fabric.Op{{Kind: fabric.FetchAdd, A: 1}, {Kind: fabric.Flush, A: fabric.Durable, B: fabric.Region}},
			[]string{"flush 0+8", "fence"}},
		{"ordering fences", []fabric.Op{write(0, 64, wt), fence, word(64, wt), fence}, []string{"flush 0+64", "fence", "flush 64+8", "fence"}},
		{"a fence with nothing to wait for", []fabric.Op{write(0, 64, wt), fence, fence, write(64, 64, 0), fence},
			[]string{"flush 0+64", "fence", "flush 64+64"}},
		{"non-temporal", []fabric.Op{write(0, 1024, nt), write(1024, 64, nt), word(2048, nt), read},
			[]string{"past 0+1024", "fence", "flush 1024+64", "fence", "flush 2048+8", "fence"}},
		{"a visible fence", []fabric.Op{write(0, 64, wt), {Kind: fabric.Fence}}, []string{"flush 0+64"}},
		{"which leaves that for later", []fabric.Op{fence}, []string{"fence"}},
	} {
		seen.calls = nil
		if do(c.ops...); !slices.Equal(seen.calls, c.want) {
			t.Errorf("%s: %q, want %q", c.name, seen.calls, c.want)
		}
	}
}
