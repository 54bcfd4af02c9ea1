"""The commands of ``tallystick activation``, by what they are about. ``activation.cli`` puts them together."""
