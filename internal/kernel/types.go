package kernel

import (
	"sync"

	"github.com/cilium/ebpf/btf"
)

// kept are the types of the running kernel while somebody keeps them.
var kept struct {
	sync.Mutex
	keepers int
	types   *btf.Cache
}

// KeepTypes keeps the kernel's types until release is called. To parse them takes
// a tenth of a second and some ten megabytes, and who starts instruments needs
// them for each program that is tried or loaded; who runs them does not.
func KeepTypes() (release func()) {
	kept.Lock()
	defer kept.Unlock()
	if kept.keepers == 0 {
		kept.types = btf.NewCache()
	}
	kept.keepers++
	return sync.OnceFunc(func() {
		kept.Lock()
		defer kept.Unlock()
		kept.keepers--
		if kept.keepers == 0 {
			kept.types = nil
		}
	})
}

// Types returns the types of the running kernel, from its BTF. They must not be
// changed.
func Types() (*btf.Spec, error) { return typeCache().Kernel() }

// typeCache is what is kept, or new.
func typeCache() *btf.Cache {
	kept.Lock()
	defer kept.Unlock()
	if kept.types == nil {
		return btf.NewCache()
	}
	return kept.types
}
