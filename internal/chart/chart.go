// SPDX-License-Identifier: Apache-2.0

// Package chart has the tests of the Helm chart in deploy/helm.
package chart
