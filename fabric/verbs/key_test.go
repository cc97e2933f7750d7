package verbs

import (
	"errors"
	"math"
	"testing"

	"whale/fabric"
)

// TestKeyHoldsWhatItSays: rkey, rights and start come back, whatever they are, and memory and iova agree within a page.
func TestKeyHoldsWhatItSays(t *testing.T) {
	for _, rkey := range []uint32{0, 1, 0xdeadbeef, math.MaxUint32} {
		for _, serial := range []uint32{0, 1, 1<<serialBits - 1, 1 << serialBits, math.MaxUint32} {
			for _, addr := range []uintptr{0, 64, 4096, 0x7fffdeadbe00 + 192, 65536 - 64} {
				for rights := range allRights + 1 {
					iova := iovaOf(serial, addr)
					if iova%65536 != uint64(addr)%65536 || iova>>63 != 0 {
						t.Fatalf("iova %#x for memory at %#x", iova, addr)
					}
					k, r, i := openKey(makeKey(rkey, rights, iova))
					if k != rkey || r != rights || i != iova {
						t.Fatalf("%#x %x %#x came back as %#x %x %#x", rkey, rights, iova, k, r, i)
					}
				}
			}
		}
	}
}

// TestKeysDiffer: the same rkey in a later registration is another key with other addresses, which do not overlap.
func TestKeysDiffer(t *testing.T) {
	seen := map[fabric.Key]bool{}
	for serial := range uint32(1 << serialBits) {
		iova := iovaOf(serial, 192)
		if next := iovaOf(serial+1, 192); serial+1 < 1<<serialBits && next-iova <= maxSpan {
			t.Fatalf("registrations %d and %d share addresses", serial, serial+1)
		}
		k := makeKey(7, fabric.RemoteRead, iova)
		if seen[k] {
			t.Fatalf("registration %d has a key that was there before", serial)
		}
		seen[k] = true
	}
}

func TestRemoteRefuses(t *testing.T) {
	iova := iovaOf(5, 128)
	key := makeKey(9, fabric.RemoteRead|fabric.RemoteFlush, iova)
	rkey, addr, err := remote(fabric.Addr{Key: key, Off: 40}, 8, fabric.RemoteRead)
	if rkey != 9 || addr != iova+40 || err != nil {
		t.Errorf("%d %#x %v", rkey, addr, err)
	}
	for name, c := range map[string]struct {
		a     fabric.Addr
		n     uint64
		needs fabric.Rights
	}{
		"another right": {fabric.Addr{Key: key}, 8, fabric.RemoteWrite},
		"no key":        {fabric.Addr{}, 8, allRights},
		"far":           {fabric.Addr{Key: key, Off: maxSpan + 1}, 0, allRights},
		"long":          {fabric.Addr{Key: key, Off: 1}, maxSpan, allRights},
		"around":        {fabric.Addr{Key: key, Off: math.MaxUint64 - 7}, 8, allRights},
		"around, long":  {fabric.Addr{Key: key, Off: 8}, math.MaxUint64 - 7, allRights},
	} {
		if _, _, err := remote(c.a, c.n, c.needs); !errors.Is(err, fabric.ErrAccess) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
