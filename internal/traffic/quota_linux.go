// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"cmp"
	"errors"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// quotas are how much of each map network namespaces may use, by the map's name.
type quotas map[string]*kernel.Quota

func (t *Traffic) newQuotas() quotas {
	all := quotas{}
	for name, number := range map[string]bpfShareOf{bpfMapTraffic: bpfShareOfSHARE_OF_TRAFFIC, bpfMapAccounts: bpfShareOfSHARE_OF_ACCOUNTS} {
		limit := cmp.Or(t.limitOf[name], t.object.Maps[name].MaxEntries())
		all[name] = kernel.NewQuota(t.object.Maps[bpfMapShares], number, limit)
	}
	return all
}

// entriesOf returns how many entries each namespace has in each map.
func entriesOf(accounts map[bpfAccountKey]bpfCount, traffic map[bpfTrafficKey]bpfCount) map[string]map[uint64]uint64 {
	ofAccounts, ofTraffic := map[uint64]uint64{}, map[uint64]uint64{}
	for key := range accounts {
		ofAccounts[key.Netns]++
	}
	for key := range traffic {
		ofTraffic[key.Netns]++
	}
	return map[string]map[uint64]uint64{bpfMapAccounts: ofAccounts, bpfMapTraffic: ofTraffic}
}

// allEntries returns how many entries all namespaces together have in a map.
func allEntries(entries map[uint64]uint64) (n int) {
	for _, ofNamespace := range entries {
		n += int(ofNamespace)
	}
	return n
}

func (q quotas) apply(host uint64, entries map[string]map[uint64]uint64) error {
	if host == 0 {
		return nil // it is not known yet which namespace is the host's
	}
	var errs error
	for name, quota := range q {
		errs = errors.Join(errs, quota.Apply(host, entries[name]))
	}
	return errs
}

// refused returns how often a namespace was refused an entry, by the map's name.
func (q quotas) refused() (map[string]uint64, error) {
	refused := map[string]uint64{}
	var errs error
	for name, quota := range q {
		n, err := quota.Refused()
		refused[name], errs = n, errors.Join(errs, err)
	}
	return refused, errs
}
