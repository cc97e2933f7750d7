package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// tool is a program that the lab needs on this machine.
type tool struct {
	name, pkg string // as Debian calls the package
}

var tools = []tool{
	{"apt-get", "apt"}, {"apt-cache", "apt"}, {"dpkg-deb", "dpkg"}, {"xz", "xz-utils"}, {"qemu-system-x86_64", "qemu-system-x86"}, {"go", "golang (or go.dev/dl)"},
}

// compiler is needed for programs with cgo only.
var compiler = tool{"gcc", "gcc libc6-dev"}

// missing names every tool that is not there, with its package; nil: none.
func missing(wanted []tool) error {
	var lacks []string
	for _, t := range wanted {
		if _, err := exec.LookPath(t.name); err != nil {
			lacks = append(lacks, fmt.Sprintf("%s (Debian's package %s)", t.name, t.pkg))
		}
	}
	if len(lacks) > 0 {
		return fmt.Errorf("needed and not on PATH: %s", strings.Join(lacks, ", "))
	}
	return nil
}
