package node

import (
	"encoding/json"
	"fmt"
	"os"
)

// ExitPermanent is the exit code of a node that ended with a [PermanentError]: whoever watches over it should not start
// it again before somebody has changed something.
const ExitPermanent = 65

// WatchParent calls gone when the process at the other end of the pipe fd has ended, however it did: the kernel closes
// the pipe then.
func WatchParent(fd int, gone func()) error {
	f := os.NewFile(uintptr(fd), "parent")
	if f == nil {
		return fmt.Errorf("--parent-fd %d is no descriptor", fd)
	}
	if _, err := f.Stat(); err != nil {
		return fmt.Errorf("--parent-fd %d: %w", fd, err)
	}
	go func() {
		var b [1]byte
		for {
			if _, err := f.Read(b[:]); err != nil {
				gone()
				return
			}
		}
	}()
	return nil
}

// Reporter writes states to fd, a line of JSON each, without ever blocking the loop: only the newest counts.
func Reporter(fd int) (func(State), error) {
	f := os.NewFile(uintptr(fd), "state")
	if f == nil {
		return nil, fmt.Errorf("--state-fd %d is no descriptor", fd)
	}
	if _, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("--state-fd %d: %w", fd, err)
	}
	states := make(chan State, 1)
	go func() {
		out := json.NewEncoder(f)
		for s := range states {
			if out.Encode(s) != nil {
				return // nobody listens any more
			}
		}
	}()
	return func(s State) {
		select {
		case <-states:
		default:
		}
		states <- s // the loop is the only sender: there is room now
	}, nil
}
