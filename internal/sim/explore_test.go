package sim

import (
	"context"
	"testing"
	"time"
)

func TestExplore(t *testing.T) {
	for _, s := range []Scope{
		{Writes: []int{0}, Reads: []int{1}},
		{Writes: []int{0}, Reads: []int{1, 2}},
		{Writes: []int{0}, Reads: []int{1}, Large: true},
		{Writes: []int{0}, Reads: []int{1}, Crash: true},
		{Writes: []int{0, 0}, Reads: []int{2}, Most: 20000},
	} {
		start := time.Now()
		found, err := Explore(context.Background(), s)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v: %d states, %d transitions, %d crashes, %d ends, complete %v in %v", s, found.States, found.Transitions, found.Crashes, found.Ended, found.Complete, time.Since(start))
		if v := found.Violation; v != nil {
			t.Fatalf("%v\n%s", v, found.Story)
		}
	}
}
