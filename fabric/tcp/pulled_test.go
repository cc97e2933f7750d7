package tcp

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"whale/fabric"
	"whale/fabric/fabrictest"
	"whale/pmem"
)

// TestPulledMemory: a file that is cut while it is registered is the end of a connection, and not more. Close revokes what
// is registered, so nobody may go on holding it.
func TestPulledMemory(t *testing.T) {
	for _, c := range []struct {
		name string
		op   fabric.Op
		here bool // the initiator's memory is cut, else the target's
	}{
		{"a short write from it", fabric.Op{Kind: fabric.Write, Len: 64}, true},
		{"a long write from it", fabric.Op{Kind: fabric.Write, Len: 4096}, true},
		{"an inline write from it", fabric.Op{Kind: fabric.Write, Len: 64, Flags: fabric.Inline}, true},
		{"a read into it", fabric.Op{Kind: fabric.Read, Len: 4096}, true},
		{"a write to it", fabric.Op{Kind: fabric.Write, Len: 4096}, false},
		{"a word of it", fabric.Op{Kind: fabric.FetchAdd, A: 1}, false},
		{"a read from it", fabric.Op{Kind: fabric.Read, Len: 4096}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "memory")
			file, err := pmem.Map(path, 1<<20, pmem.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			memories := map[bool]pmem.Memory{c.here: file, !c.here: pmem.Heap(1 << 20)}
			here, there := open(t, Options{}), open(t, Options{Domain: pmem.FileShared})
			op := c.op
			op.Flags |= fabric.Signaled
			op.Local.Key = register(t, here, memories[true], fabric.LocalOnly)
			op.Remote.Key = register(t, there, memories[false], allRights)
			op.Local.Off, op.Remote.Off = 512<<10, 512<<10
			conn, _, _, err := fabrictest.DialAccept(here, there, nil, func([]byte) ([]byte, error) { return nil, nil })
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, 4096); err != nil {
				t.Fatal(err)
			}
			conn.Post([]fabric.Op{op})
			var done [1]fabric.Completion
			for end := time.Now().Add(5 * time.Second); conn.Poll(done[:]) == 0; {
				if time.Now().After(end) {
					t.Fatal("no completion")
				}
			}
			if done[0].Err == nil {
				t.Error("it succeeded")
			}
			closed := make(chan struct{})
			go func() {
				here.Close()
				there.Close()
				close(closed)
			}()
			select {
			case <-closed:
			case <-time.After(5 * time.Second):
				t.Fatal("Close does not return")
			}
		})
	}
}
