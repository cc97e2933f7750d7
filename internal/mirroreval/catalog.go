package mirroreval

import (
	"fmt"
	"strings"

	"whale/workload"
	"whale/workload/transact"
)

// Catalog lists the workloads that are compared when nobody names one.
func Catalog() []workload.Workload {
	var all []workload.Workload
	for _, shape := range []struct {
		name   string
		params transact.Params
	}{
		{"transact-1", transact.Params{Epochs: 1}},
		{"transact-4", transact.Params{Epochs: 4}},
		{"transact-16", transact.Params{Epochs: 16}},
		{"transact-64", transact.Params{Epochs: 64}},
		{"transact-256", transact.Params{Epochs: 256}},
		{"transact-16x8", transact.Params{Epochs: 16, Writes: 8}},
		{"transact-4x64", transact.Params{Epochs: 4, Writes: 64}},
	} {
		w, err := transact.New(shape.params)
		if err != nil {
			panic(err) // constants
		}
		all = append(all, Named(shape.name, w))
	}
	return all
}

// Named is a workload under another name.
func Named(name string, w workload.Workload) workload.Workload { return named{w, name} }

type named struct {
	workload.Workload
	name string
}

func (n named) Name() string { return n.name }

// Find is the workload of the catalog with that name.
func Find(name string) (workload.Workload, error) {
	var names []string
	for _, w := range Catalog() {
		if w.Name() == name {
			return w, nil
		}
		names = append(names, w.Name())
	}
	return nil, fmt.Errorf("there is no workload %q: choose one of %s", name, strings.Join(names, ", "))
}
