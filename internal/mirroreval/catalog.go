package mirroreval

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"whale/workload"
	"whale/workload/transact"
	"whale/workload/whisper"
)

// Group is workloads over which a mean makes sense.
type Group struct {
	Name      string
	Workloads []workload.Workload
}

// Catalog lists the workloads that are compared when nobody names one: the suite's applications, and Transact in some shapes.
func Catalog() []Group {
	groups := []Group{{"whisper", whisper.Workloads()}, {"transact", shapes()}}
	return slices.DeleteFunc(groups, func(g Group) bool { return len(g.Workloads) == 0 })
}

// shapes are Transact with more and more epochs, and with wide ones.
func shapes() []workload.Workload {
	var all []workload.Workload
	for _, p := range []transact.Params{
		{Epochs: 1}, {Epochs: 4}, {Epochs: 16}, {Epochs: 64}, {Epochs: 256}, {Epochs: 16, Writes: 8}, {Epochs: 4, Writes: 64},
	} {
		w, err := transact.New(p)
		if err != nil {
			panic(err) // constants
		}
		name := fmt.Sprintf("transact-%d", p.Epochs)
		if p.Writes > 1 {
			name += fmt.Sprintf("x%d", p.Writes)
		}
		all = append(all, named{w, name})
	}
	return all
}

// named is a workload under another name.
type named struct {
	workload.Workload
	name string
}

func (n named) Name() string { return n.name }

// Thinking is the groups with applications of the suite that compute for so long besides each transaction or request. Errors: there is
// none of them among the workloads; a time that they do not take.
func Thinking(groups []Group, think time.Duration) ([]Group, error) {
	found := false
	for i, g := range groups {
		if g.Name != "whisper" {
			continue
		}
		groups[i].Workloads = nil
		for _, w := range g.Workloads {
			a, err := whisper.Find(w.Name())
			if err != nil {
				return nil, err
			}
			if w, err = a.With(think); err != nil {
				return nil, err
			}
			groups[i].Workloads = append(groups[i].Workloads, w)
			found = true
		}
	}
	if !found {
		return nil, errors.New("none of these workloads is an application of the WHISPER suite, which alone can be told how long to compute")
	}
	return groups, nil
}

// Names lists all groups and workloads of the catalog.
func Names() (names []string) {
	for _, g := range Catalog() {
		names = append(names, g.Name)
		for _, w := range g.Workloads {
			names = append(names, w.Name())
		}
	}
	return names
}

// Find is the group of that name, or the workload as a group of one.
func Find(name string) (Group, error) {
	for _, g := range Catalog() {
		if g.Name == name {
			return g, nil
		}
		for _, w := range g.Workloads {
			if w.Name() == name {
				return Group{g.Name, []workload.Workload{w}}, nil
			}
		}
	}
	return Group{}, fmt.Errorf("there is no workload %q: choose one of %s", name, strings.Join(Names(), ", "))
}
