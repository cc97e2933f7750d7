package node

import (
	"log/slog"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/shard"
)

// A loop that is behind has short slices, on whatever thread it runs; one that is not has the usual ones.
func TestSlices(t *testing.T) {
	slice := func() time.Duration {
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(attr.Runtime)
	}
	if slice() == 0 {
		t.Skip("this kernel has no time slices that can be asked for; Linux 6.12 has")
	}
	m := manners{log: slog.New(slog.DiscardHandler)}
	onThread := func(f func()) { // a thread that ends with it
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			f()
		}()
		<-done
	}
	onThread(func() {
		usual := slice()
		for _, step := range []struct {
			urgency shard.Urgency
			want    time.Duration
		}{{shard.Later, usual}, {shard.Soon, shortSlice}, {shard.Soon, shortSlice}, {shard.Later, usual}, {shard.Soon, shortSlice}} {
			if m.stepAside(step.urgency); slice() != step.want {
				t.Errorf("urgency %d: a slice of %v, want %v", step.urgency, slice(), step.want)
			}
		}
	})
	onThread(func() {
		if m.stepAside(shard.Soon); slice() != shortSlice {
			t.Errorf("on another thread: a slice of %v, want %v", slice(), shortSlice)
		}
	})
	if m.refused {
		t.Error("the kernel refused")
	}
}
