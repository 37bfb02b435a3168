"""The functions of the public API. Import them from `relid_sumo`."""
