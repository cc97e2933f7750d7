package plog

import (
	"errors"
	"path/filepath"
	"testing"

	"whale/pmem"
)

// A log in a mapped file, with the prefaulting that only files have, over the end of its process.
func TestMappedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.whale")
	var want []Rec
	for life := uint32(1); life <= 3; life++ {
		m, err := pmem.Map(path, smallGeometry.Size(), pmem.Options{})
		must(t, err)
		l, err := Open(m, path, testIdentity)
		if life == 1 {
			if !errors.Is(err, ErrUnformatted) {
				t.Fatalf("a new file: %v", err)
			}
			must(t, Format(m, smallGeometry, testIdentity))
			l, err = Open(m, path, testIdentity)
		}
		must(t, err)
		var got []Rec
		_, err = l.Recover(func(r Record, rec Rec) { got = append(got, rec) })
		must(t, err)
		if len(got) != len(want) {
			t.Fatalf("life %d: %d records, want %d", life, len(got), len(want))
		}
		for i, rec := range got {
			if rec != want[i] || !l.Verify(rec) {
				t.Fatalf("life %d: %+v, want %+v", life, rec, want[i])
			}
		}
		enter(t, l, life)
		for i := range 10 {
			want = append(want, put(t, l, keyOf(i), 5000*i%17000))
		}
		// No Commit: the pages of a file outlive the process anyway.
		if l.Superblock().Domain != uint8(pmem.FileShared) {
			t.Errorf("domain %d", l.Superblock().Domain)
		}
		must(t, l.Close())
		must(t, m.Close())
	}
}
