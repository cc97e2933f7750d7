package ptx_test

import (
	"bytes"
	"testing"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/pmem"
)

// TestOverlaps: what a transaction changes again and again, in pieces that overlap in all ways, is durable as a whole on both sides.
func TestOverlaps(t *testing.T) {
	for _, log := range logs {
		t.Run(log.String(), func(t *testing.T) {
			w, pool, one, other := pair(t, log)
			commit(t, other)
			want := make([]byte, 256)
			for i, s := range [][2]int{{0, 64}, {8, 16}, {63, 130}, {200, 256}, {130, 131}, {8, 12}, {190, 200}, {199, 201}} {
				b := bytes.Repeat([]byte{byte(i + 1)}, s[1]-s[0])
				one.Write(pool.Root()+uint64(s[0]), b)
				copy(want[s[0]:], b)
			}
			commit(t, one)
			for side, m := range []*pmem.Simulated{w.Here, w.There[0]} {
				p := reopen(t, m.CrashDurable(), ptx.Options{})
				if got := p.Region().Bytes()[p.Root():][:256]; !bytes.Equal(got, want) {
					t.Errorf("side %d holds %x, want %x", side, got, want)
				}
			}
		})
	}
}

// TestAbortLeavesCopiesEqual: blocks that nobody has are the same everywhere, too, for a mirror is told from its primary byte by byte.
func TestAbortLeavesCopiesEqual(t *testing.T) {
	for _, log := range logs {
		t.Run(log.String(), func(t *testing.T) {
			w, pool, one, other := pair(t, log)
			commit(t, other)
			at, err := one.Alloc(100)
			if err != nil {
				t.Fatal(err)
			}
			one.Write(at, bytes.Repeat([]byte{7}, 100))
			one.Store64(pool.Root(), at)
			if err := one.Abort(); err != nil {
				t.Fatal(err)
			}
			w.Settle()
			if pool.Region().Load64(pool.Root()) != 0 {
				t.Error("what was aborted is there")
			}
			here, there := w.Here.Bytes()[mirror.HeadSize:], w.There[0].Bytes()[mirror.HeadSize:]
			for i := range here {
				if here[i] != there[i] {
					t.Fatalf("byte %d is %#x here and %#x there", i, here[i], there[i])
				}
			}
		})
	}
}
