package mirror_test

import (
	"bytes"
	"testing"

	"whale/fabric/simfab"
	"whale/mirror"
	"whale/mirror/mirrortest"
)

// nets are the networks that every behaviour is tried on.
var nets = map[string]simfab.Options{
	"in order":      {},
	"relaxed":       {Relaxed: true},
	"relaxed, late": {Relaxed: true, Late: true},
	"narrow":        {QueueDepth: 4, Inline: -1},
}

// mirrored are the strategies that have mirrors.
var mirrored = []mirror.Strategy{mirror.RemoteCommit, mirror.OrderedBuffering, mirror.DDIODisabled}

// begin begins a transaction, which must not fail.
func begin(t testing.TB, r *mirror.Region) *mirror.Tx {
	t.Helper()
	tx, err := r.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// commit ends one.
func commit(t testing.TB, tx *mirror.Tx) {
	t.Helper()
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

// region is what a memory holds behind the label.
func region(b []byte) []byte { return b[mirror.HeadSize:] }

// TestTwoRegionsOneWrite: what is committed is on all sides, durably.
func TestTwoRegionsOneWrite(t *testing.T) {
	for name, net := range nets {
		for _, s := range mirrored {
			t.Run(name+", "+s.String(), func(t *testing.T) {
				w := mirrortest.New(t, mirrortest.Options{Net: net, Mirrors: 2})
				r := w.Open(mirror.Options{Strategy: s})
				tx := begin(t, r)
				tx.Write(100, []byte("first epoch"))
				tx.Barrier()
				tx.Store64(200, 42)
				tx.Write(3000, bytes.Repeat([]byte{7}, 1000))
				commit(t, tx)
				want := bytes.Clone(r.Bytes())
				for i, m := range w.There {
					if !bytes.Equal(region(m.CrashDurable().Bytes()), want) {
						t.Errorf("mirror %d does not hold durably what was committed", i)
					}
				}
				if got := region(w.Here.CrashDurable().Bytes()); !bytes.Equal(got, want) || string(got[100:111]) != "first epoch" || got[200] != 42 {
					t.Error("the primary does not hold durably what was committed")
				}
			})
		}
	}
}

// TestLongWrites: writes that are larger than the stage, and more of them than queue and stage hold, arrive.
func TestLongWrites(t *testing.T) {
	for name, net := range nets {
		for _, s := range mirrored {
			t.Run(name+", "+s.String(), func(t *testing.T) {
				w := mirrortest.New(t, mirrortest.Options{Net: net, Size: 64 << 10})
				r := w.Open(mirror.Options{Strategy: s, Stage: 4 << 10, Batch: 3})
				tx := begin(t, r)
				long := make([]byte, 50001)
				for i := range long {
					long[i] = byte(i * 7 >> 3)
				}
				tx.Write(13, long)
				for i := range 3000 {
					tx.Write(uint64(i*5), []byte{byte(i), byte(i >> 8)})
					if i%100 == 0 {
						tx.Barrier()
					}
				}
				commit(t, tx)
				if !bytes.Equal(region(w.There[0].CrashDurable().Bytes()), r.Bytes()) {
					t.Error("the mirror differs")
				}
			})
		}
	}
}
