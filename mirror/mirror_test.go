package mirror

import (
	"bytes"
	"testing"

	"whale/fabric/simfab"
)

// nets are the networks that every behaviour is tried on.
var nets = map[string]simfab.Options{
	"in order":      {},
	"relaxed":       {Relaxed: true},
	"relaxed, late": {Relaxed: true, Late: true},
	"narrow":        {QueueDepth: 4, Inline: -1},
}

// mirrored are the strategies that have mirrors.
var mirrored = []Strategy{RemoteCommit, OrderedBuffering, DDIODisabled}

// TestTwoRegionsOneWrite: what is committed is on both sides, durably.
func TestTwoRegionsOneWrite(t *testing.T) {
	for name, net := range nets {
		for _, s := range mirrored {
			t.Run(name+", "+s.String(), func(t *testing.T) {
				w := newWorld(t, setup{net: net, mirrors: 2})
				w.mustOpen(Options{Strategy: s})
				tx := w.begin()
				tx.Write(100, []byte("first epoch"))
				tx.Barrier()
				tx.Store64(200, 42)
				tx.Write(3000, bytes.Repeat([]byte{7}, 1000))
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				want := bytes.Clone(w.region.Bytes())
				for i, m := range w.mirrors {
					if got := m.CrashDurable().Bytes()[HeadSize:]; !bytes.Equal(got, want) {
						t.Errorf("mirror %d does not hold durably what was committed", i)
					}
				}
				if got := w.primary.CrashDurable().Bytes()[HeadSize:]; !bytes.Equal(got, want) || string(got[100:111]) != "first epoch" {
					t.Error("the primary does not hold durably what was committed")
				}
			})
		}
	}
}
